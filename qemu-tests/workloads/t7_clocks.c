/* SPDX-License-Identifier: GPL-2.0 */
/*
 * T7: no clock goes backwards and none jumps by more than jump=<ms> (default 5000) between two looks. Two threads look,
 * one through the vdso and one by system calls. BOOTTIME minus MONOTONIC stays the same. REALTIME may go back by
 * skew=<ms> (default 1000), by which the clocks of two hosts may differ.
 */
#include "check.h"
#include <sys/syscall.h>

/* Not CLOCK_MONOTONIC_RAW: a time namespace shifts it by the same as CLOCK_MONOTONIC, and every host has its own drift. */
static const clockid_t clocks[] = { CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME, CLOCK_MONOTONIC_COARSE };
static const char *const names[] = { "MONOTONIC", "BOOTTIME", "REALTIME", "MONOTONIC_COARSE" };
enum { CLOCKS = sizeof(clocks) / sizeof(clocks[0]) };
static int64_t jump, skew;
static atomic_bool closing;
static atomic_llong largest[CLOCKS];

static int64_t by_call(clockid_t id)
{
	struct timespec t;

	syscall(SYS_clock_gettime, id, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void look(int64_t *last, int64_t (*get)(clockid_t), const char *how)
{
	for (int i = 0; i < CLOCKS; i++) {
		int64_t now = get(clocks[i]), step = now - last[i];

		CHECK(step >= (clocks[i] == CLOCK_REALTIME ? -skew : 0), "CLOCK_%s (%s) went back by %lld us", names[i], how,
		      (long long)-step / 1000);
		CHECK(step <= jump, "CLOCK_%s (%s) jumped by %lld ms", names[i], how, (long long)step / 1000000);
		if (step > largest[i])
			largest[i] = step;
		last[i] = now;
	}
}

static void *looker(void *unused)
{
	int64_t last[CLOCKS];

	(void)unused;
	for (int i = 0; i < CLOCKS; i++)
		last[i] = by_call(clocks[i]);
	while (!closing) {
		look(last, by_call, "system call");
		usleep(200);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	int64_t last[CLOCKS], difference;
	unsigned long turns = 0;
	pthread_t id;

	check_begin(argc, argv, "t7_clocks");
	jump = check_number("jump", 5000) * 1000000;
	skew = check_number("skew", 1000) * 1000000;
	for (int i = 0; i < CLOCKS; i++)
		last[i] = check_clock(clocks[i]);
	difference = check_clock(CLOCK_BOOTTIME) - check_clock(CLOCK_MONOTONIC);
	CHECK_EQUAL("pthread_create", pthread_create(&id, NULL, looker, NULL), 0);
	check_ready();
	do {
		int64_t before, boottime, after;

		for (int i = 0; i < 2000; i++)
			look(last, check_clock, "vdso");
		before = check_clock(CLOCK_MONOTONIC);
		boottime = check_clock(CLOCK_BOOTTIME);
		after = check_clock(CLOCK_MONOTONIC);
		CHECK(boottime - after <= difference + 1000000 && boottime - before >= difference - 1000000,
		      "BOOTTIME - MONOTONIC: expected %lld us, got %lld to %lld us", (long long)difference / 1000,
		      (long long)(boottime - after) / 1000, (long long)(boottime - before) / 1000);
		turns++;
	} while (!check_turn());
	closing = true;
	pthread_join(id, NULL);
	for (int i = 0; i < CLOCKS; i++)
		check_log("NOTE largest step of CLOCK_%s: %lld us", names[i], (long long)largest[i] / 1000);
	check_done(turns);
}
