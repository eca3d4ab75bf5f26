#!/usr/bin/env bash
# Is everything on a GPU as on the CPU? Builds aird for one, and compares, within 5e-3 (a GPU multiplies
# in half precision): the residual
# stream as it is read, ablated, added to and strengthened, and the restore, on tiny models of five
# architectures; directions on one of them, and how many refusals the AIRD search brings back; and,
# within what 4 bits allow, the demo's model.
#
#   scripts/check-gpu.sh [vulkan|cuda|metal|rocm]
#
# With vulkan and without a GPU it runs on Mesa's software driver, which Debian's packages bring.
# AIRD_GPU: another device than the first, as `aird devices` names it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/toolchain.sh

kind=${1:-vulkan}
case $kind in
    vulkan) first=Vulkan0 ;;
    cuda) first=CUDA0 ;;
    metal) first=MTL0 ;;
    rocm) first=ROCm0 ;;
    *)
        say "usage: scripts/check-gpu.sh [vulkan|cuda|metal|rocm]"
        exit 2
        ;;
esac
export AIRD_GPU=${AIRD_GPU:-$first}

ensure_tools cargo cmake make c++ libclang
if [ "$kind" = vulkan ]; then
    command -v glslc >/dev/null ||
        apt_install mesa-vulkan-drivers glslc libvulkan-dev spirv-headers
    # ggml leaves out processors that only act as a GPU, unless a device is asked for by number.
    export GGML_VK_VISIBLE_DEVICES=${GGML_VK_VISIBLE_DEVICES:-0}
fi
AIRD_TEST_MODEL=$(scripts/fetch-model.sh)
export AIRD_TEST_MODEL

# A process each, for llama.cpp starts once a process. One passes: a name that no test has is none.
check() {
    local said
    printf '%s\n' "$1"
    if ! said=$(cargo test -q --locked --features "$kind" --test suite -- \
        --ignored --exact "gpu::$1" 2>&1) || [[ $said != *" 1 passed"* ]]; then
        printf '%s\n' "$said"
        exit 1
    fi
}
check every_block_goes_to_the_device
devices=$(cargo run -q --locked --features "$kind" -- devices)
printf '%s\n' "$devices"
check what_is_read_and_changed_in_the_stream_is_that_of_the_cpu
check directions_are_those_of_the_cpu
check the_search_brings_back_what_it_does_on_the_cpu
if [[ $devices == *llvmpipe* ]]; then
    echo "left out: a restore, in which Mesa's software driver (22.3) crashes in a thread of its own"
else
    check a_restore_is_that_of_the_cpu
fi
check the_real_model_reads_nearly_as_on_the_cpu_and_answers
printf '\ncheck-gpu.sh: all as on the CPU, on %s\n' "$AIRD_GPU"
