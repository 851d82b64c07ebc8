# fio: four jobs write blocks of random sizes at random places, and read back what must be there.
# shellcheck shell=bash disable=SC2154 # sourced by ../conformance.sh, which says what a suite finds

fio_verifies() {
    local name=$1 size=$((quick ? 4 : 64))
    shift
    timeout 600 fio --name="$name" --directory="$mount" --numjobs=4 --size="${size}M" --rw=randwrite \
        --bsrange=4k-128k --verify=crc32c --verify_fatal=1 --do_verify=1 --verify_state_save=0 --randseed=7 --group_reporting \
        --output="$logs/fio.$name" "$@" >>"$logs/fio.$name.err" 2>&1 || {
        say "fio, $name: $(tail -n 3 "$logs/fio.$name")"
        return 1
    }
    rm -f "$mount/$name".*
}

suite_fio() {
    fio_verifies mmap --ioengine=mmap &&
        fio_verifies libaio --ioengine=libaio --iodepth=16 &&
        fio_verifies direct --ioengine=libaio --iodepth=16 --direct=1 &&
        fio_verifies psync --ioengine=psync --bsrange=512-70k --bs_unaligned=1 --norandommap=0 --randrepeat=1 || return 1
    say "fio: 4 jobs verified with the engines mmap, libaio (buffered and direct) and psync"
}
