# shellcheck shell=bash
# Ways of compressing a model, for the studies: source it. Needs $aird and the array $threads.

# make FILE COMMAND...: runs it unless the file is there
make() {
    local file=$1
    shift
    [ -e "$file" ] || "$@"
}

# prune MODEL WAY FILE: WAY is magnitude-40, wanda-align or wanda-alpaca
prune() {
    # shellcheck disable=SC2154 # set by who sources this
    case $2 in
        magnitude-*) "$aird" prune "$1" --method magnitude --sparsity "0.${2#*-}" -o "$3" ;;
        wanda-*)
            "$aird" prune "$1" --method wanda --sparsity 0.5 --data "builtin:${2#*-}" -o "$3" \
                "${threads[@]}"
            ;;
    esac
}
