# git: a repository that is cloned, changed, packed, checked and taken apart again.
# shellcheck shell=bash disable=SC2154 # sourced by ../conformance.sh, which says what a suite finds

git_life() {
    set -euo pipefail
    local commits=$((quick ? 20 : 300)) number
    export HOME=$mount GIT_CONFIG_NOSYSTEM=1
    export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
    git init -q -b main "$mount/origin"
    cd "$mount/origin"
    for ((number = 1; number <= commits; number++)); do
        mkdir -p "d$((number % 7))"
        seq "$number" $((number * 5)) >"d$((number % 7))/f$((number % 40))"
        head -c $((number * 131)) /dev/urandom >binary
        ((number % 9)) || git rm -q --ignore-unmatch "d1/f$((number % 40))"
        git add -A
        git commit -q -m "commit $number"
    done
    git tag -a -m tag v1
    git clone -q --no-local "$mount/origin" "$mount/clone"
    git clone -q --bare "$mount/origin" "$mount/bare.git"
    cd "$mount/clone"
    git worktree add -q "$mount/tree" -b side HEAD~5
    echo side >"$mount/tree/side"
    git -C "$mount/tree" add side
    git -C "$mount/tree" commit -q -m side
    git merge -q -m merge side
    echo unfinished >>d2/f2
    git stash -q
    git stash pop -q
    git checkout -q -- d2/f2
    git push -q "$mount/bare.git" main
    git worktree remove "$mount/tree"
    git gc -q --aggressive --prune=now
    git repack -q -a -d -F
    for number in origin clone bare.git; do
        git -C "$mount/$number" fsck --full --strict --no-progress
    done
    [[ -z $(git status --porcelain) ]]
    [[ $(git -C "$mount/bare.git" rev-parse main) == "$(git rev-parse HEAD)" ]]
}

suite_git() {
    # In a shell of its own, where the first failure is the end: nothing here is called in a condition.
    export -f git_life
    export mount quick
    bash -c git_life >"$logs/git.log" 2>&1 || {
        say "git: $(tail -n 3 "$logs/git.log")"
        return 1
    }
    say "git: clone, commit, merge, worktree, push, gc and fsck of a repository"
}
