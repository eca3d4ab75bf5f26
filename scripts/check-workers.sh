#!/usr/bin/env bash
# Workers that are killed lose nothing: a command runs on two workers of this machine, one of them is
# killed with -9 at a moment drawn at random, and the same command is run again, until it ends; its
# output must be that of an undisturbed run, to the byte, and each kill one sentence with exit 1.
# Then one of them hangs (kill -STOP), and, where this system allows network namespaces (as root, with
# Debian's iproute2), one in another namespace gives the same bytes, loses its network, and is free
# again when it has it back.
#
#   scripts/check-workers.sh MODEL [KILLS]
#
# KILLS (20) are shared between asr, direction and a restore of MODEL pruned. AIRD: the binary.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/toolchain.sh
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    say "usage: scripts/check-workers.sh MODEL [KILLS]"
    exit 2
fi
model=$(realpath "$1") kills=${2:-20}
aird=$(realpath "${AIRD:-target/release/aird}")
tmp=$(mktemp -d)
ports=(50161 50162)
pids=()
namespace=aird-worker-$$ link=aird$$
stop() {
    kill -9 "${pids[@]}" ${pid:+"$pid"} 2>/dev/null || true
    ip netns delete "$namespace" 2>/dev/null || true
    rm -rf "$tmp"
}
trap stop EXIT
rpc=127.0.0.1:${ports[0]},127.0.0.1:${ports[1]}

# start I: the I-th worker, ready when it answers
start() {
    "$aird" -q worker --threads 1 --listen "127.0.0.1:${ports[$1]}" >"$tmp/worker$1.log" 2>&1 &
    pids[$1]=$!
    disown
    until (exec 3<>"/dev/tcp/127.0.0.1/${ports[$1]}") 2>/dev/null; do
        if ! kill -0 "${pids[$1]}" 2>/dev/null; then
            say "error: no worker: $(cat "$tmp/worker$1.log")"
            exit 1
        fi
        sleep 0.1
    done
}
start 0
start 1

asr() {
    # shellcheck disable=SC2086 # Several options.
    "$aird" -q asr "$model" --attack vanilla --benign none --parallel 8 --max-tokens 24 \
        --transcripts "$1" --threads 1 --rpc "$rpc" ${more:-}
}
direction() {
    mkdir -p "$1"
    "$aird" -q direction "$model" --train 32 --held-out 8 -o "$1/direction" --threads 1 --force \
        --rpc "$rpc"
}
restore() {
    mkdir -p "$1"
    "$aird" -q repair "$tmp/pruned.gguf" --reference "$model" --aim none -o "$1/restored.gguf" \
        --tokens 2000 --max-tokens 8 --threads 1 --force --rpc "$rpc"
}

"$aird" -q prune "$model" --method magnitude --sparsity 0.4 -o "$tmp/pruned.gguf" >/dev/null
done_kills=0
for verb in asr direction restore; do
    begun=$SECONDS
    "$verb" "$tmp/$verb.whole" >/dev/null
    took=$((SECONDS - begun + 1))
    share=$((kills / 3))
    if [ "$verb" = asr ]; then share=$((kills - 2 * share)); fi
    n=0
    while [ "$n" -lt "$share" ]; do
        code=0
        "$verb" "$tmp/$verb.cut" >/dev/null 2>"$tmp/said" &
        pid=$!
        sleep "$(awk -v r="$RANDOM" -v t="$took" 'BEGIN { print 0.05 + r / 32768 * t }')"
        victim=$((RANDOM % 2))
        if kill -0 "$pid" 2>/dev/null; then
            kill -9 "${pids[$victim]}"
            wait "$pid" || code=$?
            start "$victim"
            # It may have ended in the same moment, or not yet have connected.
            if [ "$code" -ne 0 ]; then
                if [ "$code" -ne 1 ] || ! grep -q "^error: .*worker 127.0.0.1:" "$tmp/said"; then
                    say "$verb: exit code $code: $(cat "$tmp/said")"
                    exit 1
                fi
                n=$((n + 1)) done_kills=$((done_kills + 1))
                continue
            fi
        else
            wait "$pid"
        fi
        diff -r "$tmp/$verb.whole" "$tmp/$verb.cut"
        rm -rf "$tmp/$verb.cut"
    done
    "$verb" "$tmp/$verb.cut" >/dev/null
    diff -r "$tmp/$verb.whole" "$tmp/$verb.cut"
    echo "$verb: $n kills, the same bytes as undisturbed (${took} s)"
done
echo "$done_kills kills, nothing lost"

# fails_naming ENDPOINT COMMAND...: the command is under way; COMMAND takes the worker away
fails_naming() {
    local code=0 begun
    "${@:2}"
    begun=$SECONDS
    wait "$pid" || code=$?
    if [ "$code" -ne 1 ] || ! grep -q "^error: worker $1 " "$tmp/said"; then
        say "exit code $code: $(cat "$tmp/said")"
        exit 1
    fi
    echo "$(head -1 "$tmp/said") (after $((SECONDS - begun)) s)"
}
# begin: asr, in the background, until its first answers are there
begin() {
    rm -rf "$tmp/lost"
    more="--rpc-silence 60" asr "$tmp/lost" >/dev/null 2>"$tmp/said" &
    pid=$!
    until compgen -G "$tmp/lost/*.jsonl" >/dev/null || ! kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
}
begin
fails_naming "127.0.0.1:${ports[1]}" kill -STOP "${pids[1]}"
kill -9 "${pids[1]}"
unset 'pids[1]' pid

if [ "$(id -u)" != 0 ] || ! ip netns add "$namespace" 2>/dev/null; then
    echo "skipped: no network namespaces here"
    exit
fi
ip link add "$link" type veth peer name eth0 netns "$namespace"
ip address add 10.213.77.1/30 dev "$link"
ip link set "$link" up
ip -n "$namespace" address add 10.213.77.2/30 dev eth0
ip -n "$namespace" link set eth0 up
there=10.213.77.2:${ports[1]}
ip netns exec "$namespace" "$aird" -q worker --threads 1 --listen "$there" 2>"$tmp/worker1.log" &
pids[1]=$!
disown
until_there() {
    until (exec 3<>"/dev/tcp/${there/://}") 2>/dev/null; do sleep 0.5; done
}
until_there
rpc=127.0.0.1:${ports[0]},$there
asr "$tmp/namespace" >/dev/null
# The worker's address is nowhere in what is kept.
diff -r "$tmp/asr.whole" "$tmp/namespace"
echo "a worker in a network namespace: the same bytes"
begin
fails_naming "$there" ip -n "$namespace" link set eth0 down
ip -n "$namespace" link set eth0 up
until_there
rm -rf "$tmp/lost"
more="--rpc-timeout 60" asr "$tmp/lost" >/dev/null
diff -r "$tmp/asr.whole" "$tmp/lost"
echo "its network is back: the same bytes"
