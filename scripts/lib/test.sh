# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Stages of a test run, and what has come of them. Source common.sh first. Progress goes to stderr; the log of each
# stage is kept in TEST_LOGS.

TEST_LOGS=$PMIG_REPO/target/pmig/logs/test
TEST_PASSED=0
TEST_FAILED=0
# "name: reason" each.
TEST_SKIPS=()
TEST_FAILURES=()

pass() { TEST_PASSED=$((TEST_PASSED + ${1:-1})); }

# fail NAME [REASON]
fail() {
	TEST_FAILED=$((TEST_FAILED + 1))
	TEST_FAILURES+=("$1${2:+: $2}")
}

# skip NAME REASON
skip() { TEST_SKIPS+=("$1: $2"); }

test_log() { printf '%s/%s.log\n' "$TEST_LOGS" "${1//[^A-Za-z0-9]/-}"; }

# run_stage NAME COMMAND… runs the command and keeps its output; the caller counts.
run_stage() {
	local name=$1 log status begin=$SECONDS
	shift
	log=$(test_log "$name")
	step "[$(printf '%4d' $SECONDS) s] $name"
	mkdir -p "$TEST_LOGS"
	set +e
	(
		set -e
		"$@"
	) 2>&1 | tee "$log" >&2
	status=${PIPESTATUS[0]}
	set -e
	if [ "$status" = 0 ]; then
		note "$name: $((SECONDS - begin)) s"
	else
		warn "$name has failed after $((SECONDS - begin)) s; its output is in $log"
	fi
	return "$status"
}

# in_new_shell FUNCTION… calls a function of these libraries so that its first failing command ends it. In this shell it
# would go on: bash ignores -e in all that is called from a condition.
in_new_shell() {
	bash -euo pipefail -c '
		for library in common chroot guest-tests debug; do . "$1/$library.sh"; done
		shift
		"$@"' "$0" "$PMIG_REPO/scripts/lib" "$@"
}

# stage NAME COMMAND… is a stage that counts as one test.
stage() {
	if run_stage "$@"; then
		pass
	else
		fail "$1"
		return 1
	fi
}

# unit_tests runs the tests of all host crates and counts them, by nextest where that is installed.
unit_tests() {
	local name="unit and property tests"
	cd "$PMIG_REPO"
	if cargo nextest --version >/dev/null 2>&1; then
		run_stage "$name" cargo nextest run --workspace --no-fail-fast --color never || true
		count_nextest "$name"
		# nextest runs everything but these.
		name="documentation examples"
		run_stage "$name" cargo test --workspace --doc --no-fail-fast --color never || true
	else
		run_stage "$name" cargo test --workspace --no-fail-fast --color never || true
	fi
	count_cargo_test "$name"
}

# count_nextest NAME counts from the log's line "Summary [  1.2s] 12 tests run: 11 passed (1 slow), 1 failed, 2 skipped".
count_nextest() {
	local log summary run passed skipped line failed=0
	log=$(test_log "$1")
	summary=$(grep -E '^ *Summary \[' "$log" | tail -n 1 || true)
	if [ -z "$summary" ]; then
		fail "$1" "they could not be built or run"
		return
	fi
	run=$(sed -nE 's/.*\] +([0-9]+)(\/[0-9]+)? tests? run.*/\1/p' <<<"$summary")
	passed=$(sed -nE 's/.* ([0-9]+) passed.*/\1/p' <<<"$summary")
	skipped=$(sed -nE 's/.* ([0-9]+) skipped.*/\1/p' <<<"$summary")
	pass "${passed:-0}"
	while read -r line; do
		fail "$1" "$line"
		failed=$((failed + 1))
	done < <(grep -E '^ *(FAIL|TIMEOUT|SIG[A-Z]+|ABORT|LEAK-FAIL) \[' "$log" | sed -E 's/^ *[A-Z-]+ \[[^]]*\] *(\([^)]*\) *)?//' | sort -u)
	if [ "$failed" = 0 ] && [ "${passed:-0}" -lt "${run:-0}" ]; then fail "$1" "$summary"; fi
	if [ "${skipped:-0}" -gt 0 ]; then
		while read -r line; do skip "$line" "marked as ignored"; done \
			< <(cargo nextest list --workspace --run-ignored ignored-only --message-format oneline 2>/dev/null || true)
	fi
}

# count_cargo_test NAME counts from the log's lines "test result: ok. 12 passed; 0 failed; 1 ignored; …" and
# "test some::name ... ignored, reason".
count_cargo_test() {
	local log results line reason count
	log=$(test_log "$1")
	results=$(grep -E '^test result:' "$log" || true)
	if [ -z "$results" ]; then
		fail "$1" "they could not be built or run"
		return
	fi
	pass "$(sed -nE 's/.* ([0-9]+) passed.*/\1/p' <<<"$results" | awk '{ sum += $1 } END { print sum + 0 }')"
	while read -r line; do
		fail "$1" "$line"
	done < <(sed -nE 's/^test (.*) \.\.\. FAILED$/\1/p' "$log")
	count=$(sed -nE 's/.*; ([0-9]+) failed.*/\1/p' <<<"$results" | awk '{ sum += $1 } END { print sum + 0 }')
	if [ "$count" = 0 ] && grep -qE '^error(\[|:)' "$log"; then fail "$1" "not all could be built or run"; fi
	while IFS=$'\t' read -r line reason; do
		skip "$line" "${reason:-marked as ignored}"
	done < <(sed -nE 's/^test (.*) \.\.\. ignored(, (.*))?$/\1\t\3/p' "$log")
}

# guest_tests NAME [ARGUMENT…] runs the guest tests and counts them. The arguments go to the harness.
guest_tests() {
	local name=$1 summary result line reason
	summary=$TEST_LOGS/guest-tests.summary
	shift
	rm -f "$summary"
	cd "$PMIG_REPO"
	run_stage "$name" "$PMIG_REPO/target/pmig/qemu-tests" --summary-file "$summary" "$@" || true
	if [ ! -s "$summary" ]; then
		fail "$name" "the harness has not come to an end"
		return
	fi
	while IFS=$'\t' read -r result line reason; do
		case $result in
		PASS) pass ;;
		FAIL) fail "$line" "$reason" ;;
		SKIP) skip "$line" "$reason" ;;
		esac
	done <"$summary"
}

# test_end prints what has failed and what was skipped, and the totals; fails if anything has.
test_end() {
	local line
	step "all stages took $SECONDS s"
	for line in ${TEST_FAILURES[@]+"${TEST_FAILURES[@]}"}; do printf 'failed: %s\n' "$line"; done
	for line in ${TEST_SKIPS[@]+"${TEST_SKIPS[@]}"}; do printf 'skipped: %s\n' "$line"; done
	printf '%d passed, %d failed, %d skipped\n' "$TEST_PASSED" "$TEST_FAILED" ${#TEST_SKIPS[@]}
	[ "$TEST_FAILED" = 0 ]
}
