# A Homebrew formula, as a template: release.yml fills in the version and the checksums and adds the
# file to the release. It was never run.
class Aird < Formula
  desc "Repairs the safety that compression breaks, on GGUF model files, offline"
  homepage "https://github.com/OWNER/aird"
  version "VERSION"
  license any_of: ["MIT", "Apache-2.0"]

  on_macos do
    on_arm do
      url "https://github.com/OWNER/aird/releases/download/vVERSION/aird-VERSION-aarch64-macos.tar.gz"
      sha256 "SHA256-aarch64-macos"
    end
  end
  on_linux do
    on_intel do
      url "https://github.com/OWNER/aird/releases/download/vVERSION/aird-VERSION-x86_64-linux.tar.gz"
      sha256 "SHA256-x86_64-linux"
    end
    on_arm do
      url "https://github.com/OWNER/aird/releases/download/vVERSION/aird-VERSION-aarch64-linux.tar.gz"
      sha256 "SHA256-aarch64-linux"
    end
  end

  def install
    bin.install "aird", *Dir["aird-*-v3"]
    man1.install Dir["man/*.1"]
    bash_completion.install "completions/aird.bash" => "aird"
    zsh_completion.install "completions/_aird"
    fish_completion.install "completions/aird.fish"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/aird --version")
  end
end
