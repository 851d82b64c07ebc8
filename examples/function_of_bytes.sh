#!/bin/sh
# Any tool that insists on files, as a filter: a tar goes in, a tar comes out, nothing touches a disk.
#
#     $ tar c words | examples/function_of_bytes.sh sorted sort words -o sorted | tar xO sorted
#     apple
#     pear
#
# The first word is the output, the others are the tool's command line.
set -eu
output=$1
shift
exec notapipe run --unpack - --pack - -o "$output" -- "$@"
