#!/usr/bin/env bash
# Packs a binary for a release: an archive with the program, man pages, completions, licences and
# README, and prints its name. The same binary gives the same bytes.
#
#   scripts/package.sh AIRD PLATFORM FOLDER [FASTER]      e.g. target/release/aird x86_64-linux dist
#
# FASTER: the build for CPUs with AVX2 (x86-64-v3), which AIRD starts where it can (src/cli/faster.rs).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/toolchain.sh

if [ $# -ne 3 ] && [ $# -ne 4 ]; then
    say "usage: scripts/package.sh AIRD PLATFORM FOLDER [FASTER]"
    exit 2
fi
aird=$1 platform=$2 folder=$3
version=$("$aird" --version | cut -d ' ' -f 2)
name=aird-$version-$platform
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$folder" "$tmp/$name/man" "$tmp/$name/completions"
folder=$(cd "$folder" && pwd)

"$aird" generate man --dir "$tmp/$name/man"
for shell in bash fish powershell elvish; do
    "$aird" generate completions "$shell" >"$tmp/$name/completions/aird.$shell"
done
"$aird" generate completions zsh >"$tmp/$name/completions/_aird"
case $platform in
    *-windows) cp "$aird" "$tmp/$name/aird.exe" ;;
    *) cp "$aird" "$tmp/$name/aird" ;;
esac
cp README.md LICENSE-MIT LICENSE-APACHE CHANGELOG.md "$tmp/$name/"

[ -z "${4:-}" ] || cp "$4" "$tmp/$name/aird-$version-v3"

cd "$tmp"
case $platform in
    *-windows)
        # GitHub's Windows has no zip, but 7-Zip.
        7z a -bso0 "$folder/$name.zip" "$name"
        printf '%s\n' "$folder/$name.zip"
        ;;
    *-macos)
        tar -czf "$folder/$name.tar.gz" "$name"
        printf '%s\n' "$folder/$name.tar.gz"
        ;;
    *)
        tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - "$name" |
            gzip -n9 >"$folder/$name.tar.gz"
        printf '%s\n' "$folder/$name.tar.gz"
        ;;
esac
