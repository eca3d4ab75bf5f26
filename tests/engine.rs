//! The engine: hooks see and change what they should, and answers do not depend on what shares
//! their batch.

use std::path::Path;

use aird::llama::{
    Engine, Error, Generation, Hooks, Input, NoListener, Options, Prefill, Reading, Sampling,
    Session, Site, Size, generate, prompt_inputs,
};

use crate::support::{Arch, Tiny, real_model, tempdir};

const ARCHES: [Arch; 5] = [Arch::Llama, Arch::Qwen2, Arch::Gemma3, Arch::Olmo2, Arch::Qwen3Moe];
const ONE: Options = Options::cpu(1);
const SIZE: Size = Size { n_ctx: 256, n_batch: 256, n_seq: 4, unified: true };

fn engine(path: &Path) -> Engine {
    Engine::load(path, ONE).unwrap()
}

fn tokens(engine: &Engine, text: &str) -> Vec<i32> {
    engine.tokenize(text, true)
}

fn logits(engine: &Engine, hooks: Option<&mut Hooks<'_>>) -> Vec<f32> {
    let mut session = Session::new(engine, SIZE).unwrap();
    let tokens = tokens(engine, "Tell me a story");
    session.decode(&prompt_inputs(&tokens, 0, 0), hooks).unwrap();
    session.logits(tokens.len() - 1).unwrap().to_vec()
}

#[test]
fn the_residual_stream_is_seen_at_every_block_of_every_architecture() {
    for arch in ARCHES {
        let folder = tempdir();
        let engine = engine(&Tiny::new(arch).blocks(3).seed(2).write(folder.path()));
        let mut seen = std::collections::BTreeMap::<Site, usize>::new();
        let mut hooks = Hooks::new().read(
            |_| true,
            |site, _, row| {
                assert!(row.iter().all(|x| x.is_finite()));
                *seen.entry(site).or_default() += 1;
                Ok(())
            },
        );
        logits(&engine, Some(&mut hooks));
        drop(hooks);
        let n_tokens = tokens(&engine, "Tell me a story").len();
        let structure = engine.structure().unwrap();
        let inputs = [0, 1, 2, 3].map(|block| structure.input_of(block));
        assert_eq!(inputs.map(|input| input - inputs[0]), [0, 2, 4, 6], "{arch:?}");
        for place in 0..=inputs[2] {
            assert_eq!(seen.get(&Site::Point(place)), Some(&n_tokens), "{arch:?} {place}");
        }
        // The last block keeps the rows whose logits are asked for.
        assert_eq!(seen.get(&Site::Point(inputs[3])), Some(&1), "{arch:?}");
        let outputs = seen.keys().filter(|s| matches!(s, Site::Output(..))).count();
        // Experts' outputs are no rows of tokens.
        let expected = if arch == Arch::Qwen3Moe { 3 } else { 6 };
        assert_eq!(outputs, expected, "{arch:?}: {:?}", seen.keys());
    }
}

#[test]
fn a_change_reaches_the_logits_and_reading_does_not() {
    for arch in ARCHES {
        let folder = tempdir();
        let engine = engine(&Tiny::new(arch).seed(2).write(folder.path()));
        let plain = logits(&engine, None);
        let mut reading = Hooks::new().read(|_| true, |_, _, _| Ok(()));
        assert_eq!(plain, logits(&engine, Some(&mut reading)), "{arch:?}");
        for site in [0, 1, 2].map(Site::Point) {
            let double = |_, row: &mut [f32]| row.iter_mut().for_each(|x| *x = -*x);
            let mut hooks = Hooks::new().change(move |s| s == site, double);
            assert_ne!(plain, logits(&engine, Some(&mut hooks)), "{arch:?} {site:?}");
        }
    }
}

#[test]
fn panics_and_errors_come_out_of_a_hook_as_errors() {
    let folder = tempdir();
    let engine = engine(&Tiny::new(Arch::Llama).write(folder.path()));
    let mut session = Session::new(&engine, SIZE).unwrap();
    let inputs = prompt_inputs(&tokens(&engine, "Tell me"), 0, 0);
    let mut panicking = Hooks::new().read(|_| true, |_, _, _| panic!("on purpose"));
    let error = session.decode(&inputs, Some(&mut panicking)).unwrap_err();
    assert!(error.to_string().contains("on purpose"), "{error}");
    let fail = |_, _, _: &[f32]| Err(Error::NotFinite { block: 7 });
    let mut failing = Hooks::new().read(|site| site == Site::Point(2), fail);
    session.clear();
    let error = session.decode(&inputs, Some(&mut failing)).unwrap_err();
    assert!(error.to_string().contains("block 7"), "{error}");
    session.clear();
    assert!(session.decode(&inputs, None).is_ok(), "the session goes on");
    let outside = [Input { token: 1, position: 0, sequence: 9, logits: true }];
    assert!(session.decode(&outside, None).is_err(), "a sequence that there is no room for");
}

#[test]
fn activations_of_a_prompt_do_not_depend_on_what_is_read_with_it() {
    for arch in ARCHES {
        let folder = tempdir();
        let engine = engine(&Tiny::new(arch).seed(4).write(folder.path()));
        let texts = ["Tell me a story", "Tell me two", "Say no", "Tell me a story, in 3 words"];
        let prompts: Vec<Vec<i32>> = texts.iter().map(|text| tokens(&engine, text)).collect();
        let together = readings(&engine, &prompts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        for (i, prompt) in prompts.iter().enumerate() {
            let alone = readings(&engine, &[prompt]);
            assert_eq!(alone.len(), together.len() / prompts.len(), "{arch:?}");
            for ((site, _, behind), row) in &alone {
                let other = &together[&(*site, i, *behind)];
                let close = row.iter().zip(other).all(|(a, b)| (a - b).abs() < 1e-4);
                assert!(close, "{arch:?} {site:?} {i}");
            }
        }
    }
}

type Rows = std::collections::BTreeMap<(Site, usize, usize), Vec<f32>>;

fn readings(engine: &Engine, prompts: &[&[i32]]) -> Rows {
    let longest = prompts.iter().map(|p| p.len()).max().unwrap();
    let mut prefill = Prefill::new(engine, longest, 3).unwrap();
    let mut rows = Rows::new();
    let reading = Reading {
        at: Box::new(|site| matches!(site, Site::Point(0 | 2))),
        n_last: 2,
        row: Box::new(|site, prompt, behind, row| {
            let old = rows.insert((site, prompt, behind), row.to_vec());
            assert!(old.is_none(), "read twice: {site:?} {prompt} {behind}");
            Ok(())
        }),
    };
    let mut answered = Vec::new();
    let note = |i, logits: &[f32]| {
        assert!(logits.iter().all(|x| x.is_finite()));
        answered.push(i);
        Ok(())
    };
    prefill.run(prompts, Hooks::new(), Some(reading), note).unwrap();
    assert_eq!(answered, (0..prompts.len()).collect::<Vec<_>>());
    rows
}

#[test]
fn the_real_model_answers_the_same_alone_and_in_company() {
    let Some(model) = real_model() else { return };
    let engine = engine(&model);
    let texts = ["The capital of France is", "The capital of Italy is", "One plus one is"];
    let prompts: Vec<Vec<i32>> = texts.iter().map(|text| tokens(&engine, text)).collect();
    let answer = |prompts: &[Vec<i32>], parallel| {
        let settings = Generation { max_tokens: 6, parallel, sampling: Sampling::Greedy };
        generate(&engine, prompts, settings, &mut Hooks::new(), &mut NoListener).unwrap()
    };
    let together = answer(&prompts, 3);
    for (i, prompt) in prompts.iter().enumerate() {
        assert_eq!(answer(std::slice::from_ref(prompt), 1)[0], together[i], "{}", texts[i]);
    }
    assert_eq!(answer(&prompts, 2), together, "a slot is used again");
    let text: Vec<u8> = together[0].iter().flat_map(|&t| engine.piece(t)).collect();
    assert!(String::from_utf8_lossy(&text).contains("Paris"));
}

#[test]
fn prompts_that_do_not_fit_are_named() {
    let folder = tempdir();
    let engine = engine(&Tiny::new(Arch::Llama).write(folder.path()));
    let long = vec![1; engine.n_ctx_train() as usize];
    let settings = Generation { max_tokens: 4, parallel: 1, sampling: Sampling::Greedy };
    let ask = |prompts: &[Vec<i32>]| {
        generate(&engine, prompts, settings, &mut Hooks::new(), &mut NoListener)
            .unwrap_err()
            .to_string()
    };
    assert!(ask(&[vec![1], long]).starts_with("prompt 1 has"), "too long");
    assert!(ask(&[vec![1], vec![]]).starts_with("prompt 1 has no tokens"), "empty");
}
