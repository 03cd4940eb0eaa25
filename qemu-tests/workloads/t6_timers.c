/* SPDX-License-Identifier: GPL-2.0 */
/*
 * T6: interval timers and POSIX timers under numbers with gaps. No expiration is lost or doubled: what a timer has counted is
 * always what the clock says.
 *
 *   early=<ms>     how much earlier than expected a span of the wall clock may end (default 0)
 */
#include "check.h"
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>

#define MS 1000000ll
#define PERIOD (60 * MS)
#define PERIOD_BOOTTIME (90 * MS)
#define PERIOD_THREAD (80 * MS)
#define PERIOD_BLOCKED (130 * MS)
#define PERIOD_REAL (50 * MS)
#define LONG (3600ll * 1000 * MS)
/* How far apart the wall clocks of two hosts may be. */
#define SKEW (3000 * MS)
#define GAPS 7

#define HANDLED SIGRTMIN
#define BLOCKED (SIGRTMIN + 1)
#define ONCE (SIGRTMIN + 2)
#define OF_THREAD (SIGRTMIN + 3)
#define UNUSED (SIGRTMIN + 4)

/* The numbers that the kernel knows timers by; the C library has its own. */
typedef int timer_number;

static timer_number handled, boottime, of_thread, blocked, once, far, far_realtime, span_realtime, none, never_set;
static int64_t first_handled, first_boottime, first_thread, first_blocked, first_none, first_real, far_at,
	far_realtime_at, span_at;
static atomic_ullong sum_handled, sum_boottime, sum_thread, alarms;
static atomic_llong last_alarm;
static atomic_int ready;
static int last_overrun;

static struct timespec span(int64_t nanoseconds)
{
	return (struct timespec){ nanoseconds / 1000000000, nanoseconds % 1000000000 };
}

static timer_number make(clockid_t clock, int notify, int signal, int value, pid_t tid)
{
	struct sigevent event = { .sigev_notify = notify, .sigev_signo = signal, .sigev_value.sival_int = value };
	timer_number number = -1;

	event._sigev_un._tid = tid;
	CHECK_CALL("timer_create", syscall(SYS_timer_create, clock, &event, &number));
	return number;
}

static void set(timer_number number, int how, int64_t first, int64_t period)
{
	struct itimerspec t = { .it_value = span(first), .it_interval = span(period) };

	CHECK_CALL("timer_settime", syscall(SYS_timer_settime, number, how, &t, NULL));
}

static int64_t left(timer_number number, int64_t period)
{
	struct itimerspec t;

	CHECK_CALL("timer_gettime", syscall(SYS_timer_gettime, number, &t));
	CHECK_EQUAL("period", t.it_interval.tv_sec * 1000000000ll + t.it_interval.tv_nsec, period);
	return t.it_value.tv_sec * 1000000000ll + t.it_value.tv_nsec;
}

/* How often a periodic timer has expired since it was set. */
static uint64_t due(clockid_t clock, int64_t first, int64_t period)
{
	int64_t now = check_clock(clock);

	return now < first ? 0 : (now - first) / period + 1;
}

static void on_timer(int signal, siginfo_t *info, void *unused)
{
	(void)signal;
	(void)unused;
	/* One signal number for two timers: the value tells which. */
	CHECK_EQUAL("si_code", info->si_code, SI_TIMER);
	CHECK_EQUAL("si_timerid", info->si_timerid, info->si_int == 11 ? handled : boottime);
	*(info->si_int == 11 ? &sum_handled : &sum_boottime) += 1 + info->si_overrun;
}

static void on_alarm(int signal)
{
	(void)signal;
	alarms++;
	last_alarm = check_clock(CLOCK_MONOTONIC);
}

static void check_sum(const char *what, atomic_ullong *sum, clockid_t clock, int64_t first, int64_t period)
{
	int64_t deadline = check_clock(CLOCK_MONOTONIC) + 10000 * MS;
	uint64_t before = due(clock, first, period), got;

	/* The signal may come a little after the time of the timer. */
	while ((got = *sum) < before && check_clock(CLOCK_MONOTONIC) < deadline)
		check_sleep(1);
	CHECK(got >= before && got <= due(clock, first, period), "%s: %llu expirations, expected %llu to %llu", what,
	      (unsigned long long)got, (unsigned long long)before, (unsigned long long)due(clock, first, period));
}

static void check_far(const char *what, timer_number number, clockid_t clock, int64_t at, int64_t early)
{
	int64_t before = at - check_clock(clock), value = left(number, 0), after = at - check_clock(clock);

	CHECK(value <= before + 50 * MS + early && value >= after - early, "%s: %lld us left, expected %lld to %lld", what,
	      (long long)value / 1000, (long long)after / 1000, (long long)before / 1000);
}

static void *receiver(void *unused)
{
	siginfo_t info;
	sigset_t mask;

	(void)unused;
	/* A handler in this thread would end its wait. */
	sigfillset(&mask);
	CHECK_EQUAL("pthread_sigmask", pthread_sigmask(SIG_BLOCK, &mask, NULL), 0);
	sigemptyset(&mask);
	sigaddset(&mask, OF_THREAD);
	of_thread = make(CLOCK_MONOTONIC, SIGEV_THREAD_ID, OF_THREAD, 33, syscall(SYS_gettid));
	first_thread = check_clock(CLOCK_MONOTONIC) + PERIOD_THREAD;
	set(of_thread, TIMER_ABSTIME, first_thread, PERIOD_THREAD);
	ready = 1;
	for (;;) {
		CHECK_EQUAL("sigwaitinfo", sigwaitinfo(&mask, &info), OF_THREAD);
		CHECK_EQUAL("value", info.si_int, 33);
		CHECK_EQUAL("si_timerid", info.si_timerid, of_thread);
		sum_thread += 1 + info.si_overrun;
	}
	return NULL;
}

static bool waits(int signal)
{
	sigset_t pending;

	CHECK_CALL("sigpending", sigpending(&pending));
	return sigismember(&pending, signal);
}

/* Takes a signal that is blocked. Returns the number of expirations that it stands for. */
static uint64_t take(int signal, timer_number number, int value)
{
	struct timespec now = { 10, 0 };
	siginfo_t info;
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, signal);
	CHECK_EQUAL("sigtimedwait", sigtimedwait(&mask, &info, &now), signal);
	CHECK_EQUAL("si_code", info.si_code, SI_TIMER);
	CHECK_EQUAL("si_timerid", info.si_timerid, number);
	CHECK_EQUAL("value", info.si_int, value);
	return 1 + (uint64_t)info.si_overrun;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct itimerval value;
	timer_number gaps[GAPS], fresh;
	unsigned long turns = 0;
	uint64_t sum_blocked, before;
	int64_t early, cpu_left = LONG;
	sigset_t mask;
	pthread_t id;

	check_begin(argc, argv, "t6_timers");
	early = check_number("early", 0) * MS;
	CHECK_CALL("sigaction", sigaction(HANDLED, &action, NULL));
	action.sa_handler = on_alarm;
	action.sa_flags = SA_RESTART;
	CHECK_CALL("sigaction", sigaction(SIGALRM, &action, NULL));
	sigemptyset(&mask);
	sigaddset(&mask, BLOCKED);
	sigaddset(&mask, ONCE);
	sigaddset(&mask, OF_THREAD);
	CHECK_CALL("sigprocmask", sigprocmask(SIG_BLOCK, &mask, NULL));

	handled = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, HANDLED, 11, 0);
	for (int i = 0; i < GAPS; i++)
		gaps[i] = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, UNUSED, 0, 0);
	boottime = make(CLOCK_BOOTTIME, SIGEV_SIGNAL, HANDLED, 22, 0);
	blocked = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, BLOCKED, 44, 0);
	once = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, ONCE, 55, 0);
	far = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, UNUSED, 0, 0);
	far_realtime = make(CLOCK_REALTIME, SIGEV_SIGNAL, UNUSED, 0, 0);
	span_realtime = make(CLOCK_REALTIME, SIGEV_SIGNAL, UNUSED, 0, 0);
	none = make(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0);
	never_set = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, UNUSED, 0, 0);
	for (int i = 0; i < GAPS; i += 2)
		CHECK_CALL("timer_delete", syscall(SYS_timer_delete, gaps[i]));

	first_blocked = check_clock(CLOCK_MONOTONIC) + PERIOD_BLOCKED;
	set(blocked, TIMER_ABSTIME, first_blocked, PERIOD_BLOCKED);
	set(once, 0, 1, 0);
	far_at = check_clock(CLOCK_MONOTONIC) + LONG;
	set(far, TIMER_ABSTIME, far_at, 0);
	far_realtime_at = check_clock(CLOCK_REALTIME) + LONG;
	set(far_realtime, TIMER_ABSTIME, far_realtime_at, 0);
	span_at = check_clock(CLOCK_MONOTONIC) + LONG;
	set(span_realtime, 0, LONG, 0);
	first_none = check_clock(CLOCK_MONOTONIC) + PERIOD_BLOCKED;
	set(none, TIMER_ABSTIME, first_none, PERIOD_BLOCKED);
	/* Its first signal stands for three expirations or more; timer_getoverrun() says so until the second is taken. */
	check_sleep(3 * PERIOD_BLOCKED / MS + 20);
	sum_blocked = take(BLOCKED, blocked, 44);
	CHECK(sum_blocked >= 3, "only %llu expirations", (unsigned long long)sum_blocked);
	last_overrun = sum_blocked - 1;
	CHECK_EQUAL("pthread_create", pthread_create(&id, NULL, receiver, NULL), 0);
	while (!ready)
		check_sleep(1);
	first_handled = check_clock(CLOCK_MONOTONIC) + PERIOD;
	set(handled, TIMER_ABSTIME, first_handled, PERIOD);
	first_boottime = check_clock(CLOCK_BOOTTIME) + PERIOD_BOOTTIME;
	set(boottime, TIMER_ABSTIME, first_boottime, PERIOD_BOOTTIME);
	value = (struct itimerval){ { 0, PERIOD_REAL / 1000 }, { 0, PERIOD_REAL / 1000 } };
	first_real = check_clock(CLOCK_MONOTONIC) + PERIOD_REAL;
	last_alarm = first_real;
	CHECK_CALL("setitimer", setitimer(ITIMER_REAL, &value, NULL));
	value = (struct itimerval){ { 7, 5 }, { LONG / 1000000000, 0 } };
	CHECK_CALL("setitimer", setitimer(ITIMER_VIRTUAL, &value, NULL));
	CHECK_CALL("setitimer", setitimer(ITIMER_PROF, &value, NULL));
	check_ready();

	do {
		int64_t waited, now;

		check_sum("timer with a handler", &sum_handled, CLOCK_MONOTONIC, first_handled, PERIOD);
		check_sum("timer of the boot clock", &sum_boottime, CLOCK_BOOTTIME, first_boottime, PERIOD_BOOTTIME);
		check_sum("timer of a thread", &sum_thread, CLOCK_MONOTONIC, first_thread, PERIOD_THREAD);
		check_far("far timer", far, CLOCK_MONOTONIC, far_at, 0);
		check_far("far timer of the wall clock", far_realtime, CLOCK_REALTIME, far_realtime_at, SKEW);
		check_far("span of the wall clock", span_realtime, CLOCK_MONOTONIC, span_at, early);
		CHECK_EQUAL("timer that is not set", left(never_set, 0), 0);
		CHECK_EQUAL("timer that expires once", left(once, 0), 0);
		waited = left(none, PERIOD_BLOCKED);
		CHECK(waited > 0 && waited <= PERIOD_BLOCKED, "timer without a signal: %lld us left", (long long)waited / 1000);
		CHECK(waits(ONCE), "the signal of the timer that has expired once does not wait");
		CHECK_EQUAL("timer_getoverrun", syscall(SYS_timer_getoverrun, blocked), last_overrun);
		/* Standard signals merge, so only that they go on, at the right times, can be said. */
		now = check_clock(CLOCK_MONOTONIC);
		CHECK(now - last_alarm < PERIOD_REAL + 10000 * MS, "no alarm since %lld ms",
		      (long long)(now - last_alarm) / 1000000);
		CHECK(alarms <= due(CLOCK_MONOTONIC, first_real - 2 * MS, PERIOD_REAL), "too many alarms: %llu",
		      (unsigned long long)alarms);
		CHECK_CALL("getitimer", getitimer(ITIMER_VIRTUAL, &value));
		CHECK_EQUAL("period of CPU time", value.it_interval.tv_sec * 1000000ll + value.it_interval.tv_usec, 7000005);
		now = value.it_value.tv_sec * 1000000000ll + value.it_value.tv_usec * 1000;
		/* The kernel counts CPU time in ticks. */
		CHECK(now <= cpu_left + 50 * MS && now > LONG - 600000 * MS, "%lld us of CPU time left, expected %lld",
		      (long long)now / 1000, (long long)cpu_left / 1000);
		cpu_left = now;
		turns++;
	} while (!check_turn());

	CHECK_EQUAL("timer that expires once", take(ONCE, once, 55), 1);
	CHECK(!waits(ONCE), "a timer that expires once has two signals");
	check_sleep(PERIOD_BLOCKED / MS + 5);
	before = due(CLOCK_MONOTONIC, first_blocked, PERIOD_BLOCKED);
	sum_blocked += take(BLOCKED, blocked, 44);
	CHECK(sum_blocked >= before && sum_blocked <= due(CLOCK_MONOTONIC, first_blocked, PERIOD_BLOCKED),
	      "blocked timer: %llu expirations, expected %llu", (unsigned long long)sum_blocked, (unsigned long long)before);
	before = alarms;
	check_sleep(10 * PERIOD_REAL / MS);
	CHECK(alarms > before, "no more alarms");
	for (int i = 0; i < GAPS; i++)
		CHECK(syscall(SYS_timer_delete, gaps[i]) == (i % 2 ? 0 : -1), "timer %d: %s", gaps[i], strerror(errno));
	fresh = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, ONCE, 66, 0);
	set(fresh, 0, MS, 0);
	CHECK_EQUAL("fresh timer", take(ONCE, fresh, 66), 1);
	CHECK_CALL("setitimer", getitimer(ITIMER_PROF, &value));
	CHECK(value.it_value.tv_sec > LONG / 1000000000 - 600, "little CPU time left");
	check_done(turns);
}
