//! Messages are about files, not about the program that uses this crate.

#[test]
fn no_message_names_an_option_or_a_command_of_a_program() {
    let source = include_str!("../../src/error.rs");
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut n_messages = 0;
    for line in code.filter(|line| line.contains('"') || line.contains("hint:")) {
        n_messages += 1;
        // A command of every shell, in a hint about the system's limits.
        let line = line.replace("ulimit -u", "");
        for word in line.split(|c: char| c.is_whitespace() || "\"`'(),;:".contains(c)) {
            assert!(!word.starts_with('-') && word != "aird", "{line}");
        }
    }
    assert!(n_messages > 50, "{n_messages}");
}
