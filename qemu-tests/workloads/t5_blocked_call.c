/* SPDX-License-Identifier: GPL-2.0 */
/*
 * T5: waits in one system call again and again and checks that no wait ends with EINTR, ends early, or ends late.
 *
 *   call=NAME      see the table at the end
 *   wait=<ms>      how long each wait lasts (default 3000)
 *   slack=<ms>     how much longer it may last, for the freeze and a slow machine (default 2000)
 *   skew=<ms>      how far apart the real-time clocks of two hosts may be (default 1000)
 *   stuck=<dir>    a thread makes and removes directories there all the time: it cannot be frozen while the file system is
 *   rounds=<n>     ends by itself after so many waits, instead of with LOG.finish
 *
 * The calls without a time of their own are ended by a second thread, which itself sleeps in clock_nanosleep with an
 * absolute time.
 */
#include "check.h"
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

static int64_t wait_ns, slack_ns, early_ns;
static int64_t late_ns;
static int ends[2], events = -1;
static uint32_t word;
static volatile sig_atomic_t handled;
static pthread_t main_thread;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t asked = PTHREAD_COND_INITIALIZER;
static int64_t wake_at;
static void (*wake)(void);

static struct timespec span(int64_t nanoseconds)
{
	return (struct timespec){ nanoseconds / 1000000000, nanoseconds % 1000000000 };
}

static void on_signal(int signal)
{
	(void)signal;
	handled++;
}

/* Ends the wait of the main thread at the time it asked for. */
static void *waker(void *unused)
{
	sigset_t all;

	(void)unused;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	pthread_mutex_lock(&lock);
	for (;;) {
		struct timespec t;
		int error;

		while (!wake_at)
			pthread_cond_wait(&asked, &lock);
		t = span(wake_at);
		pthread_mutex_unlock(&lock);
		error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
		CHECK(!error, "clock_nanosleep of the second thread: %s", strerror(error));
		pthread_mutex_lock(&lock);
		CHECK(check_clock(CLOCK_MONOTONIC) >= wake_at, "the second thread woke early");
		wake_at = 0;
		wake();
	}
	return NULL;
}

static void *maker(void *directory)
{
	char path[256];
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	snprintf(path, sizeof(path), "%s/made", (const char *)directory);
	for (;;) {
		CHECK_CALL("mkdir", mkdir(path, 0777));
		CHECK_CALL("rmdir", rmdir(path));
		check_sleep(10);
	}
	return NULL;
}

static void wake_later(void)
{
	pthread_mutex_lock(&lock);
	wake_at = check_clock(CLOCK_MONOTONIC) + wait_ns;
	pthread_cond_signal(&asked);
	pthread_mutex_unlock(&lock);
}

static void wake_by_pipe(void)
{
	CHECK(write(ends[1], "byte", 4) == 4, "write: %s", strerror(errno));
}

static void wake_by_eventfd(void)
{
	CHECK_CALL("eventfd_write", eventfd_write(events, 7));
}

static void wake_by_futex(void)
{
	__atomic_add_fetch(&word, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void wake_by_signal(void)
{
	pthread_kill(main_thread, SIGUSR1);
}

static void check_pipe(void)
{
	char bytes[8];

	CHECK_EQUAL("bytes in the pipe", read(ends[0], bytes, sizeof(bytes)), 4);
	CHECK(!memcmp(bytes, "byte", 4), "expected byte, got %.4s", bytes);
}

static void call_nanosleep(void)
{
	struct timespec t = span(wait_ns);

	CHECK(!syscall(SYS_nanosleep, &t, NULL), "nanosleep: %s", strerror(errno));
}

static void clock_sleep(clockid_t clock, bool absolute)
{
	struct timespec t = span(wait_ns + (absolute ? check_clock(clock) : 0));
	long error = syscall(SYS_clock_nanosleep, clock, absolute ? TIMER_ABSTIME : 0, &t, NULL);

	CHECK(!error, "clock_nanosleep: %s", strerror(errno));
}

static void call_relative_monotonic(void)
{
	clock_sleep(CLOCK_MONOTONIC, false);
}

static void call_absolute_monotonic(void)
{
	clock_sleep(CLOCK_MONOTONIC, true);
}

static void call_relative_realtime(void)
{
	clock_sleep(CLOCK_REALTIME, false);
}

static void call_absolute_realtime(void)
{
	clock_sleep(CLOCK_REALTIME, true);
}

static void call_relative_boottime(void)
{
	clock_sleep(CLOCK_BOOTTIME, false);
}

static void call_absolute_boottime(void)
{
	clock_sleep(CLOCK_BOOTTIME, true);
}

static void call_pipe_read(void)
{
	wake_later();
	check_pipe();
}

static void call_pipe_write(void)
{
	/* The pipe is full; the second thread makes room by reading. */
	static char bytes[4096];
	ssize_t length = write(ends[1], bytes, sizeof(bytes));

	CHECK(length == sizeof(bytes), "write to a full pipe: got %zd, %s", length, strerror(errno));
}

static void call_futex(void)
{
	uint32_t before = __atomic_load_n(&word, __ATOMIC_ACQUIRE);
	long result;

	wake_later();
	result = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, before, NULL, NULL, 0);
	CHECK(!result, "futex: %s", strerror(errno));
	CHECK_EQUAL("futex word", word, before + 1);
}

static void call_futex_timeout(void)
{
	struct timespec t = span(wait_ns);
	long result = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, word, &t, NULL, 0);

	CHECK(result == -1 && errno == ETIMEDOUT, "futex with a timeout: got %ld, %s", result, strerror(errno));
}

static void call_futex_absolute(void)
{
	struct timespec t = span(check_clock(CLOCK_MONOTONIC) + wait_ns);
	long result = syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, word, &t, NULL, FUTEX_BITSET_MATCH_ANY);

	CHECK(result == -1 && errno == ETIMEDOUT, "futex with an absolute time: got %ld, %s", result, strerror(errno));
}

static void call_poll(void)
{
	struct pollfd entry = { .fd = ends[0], .events = POLLIN };

	wake_later();
	CHECK_EQUAL("poll", syscall(SYS_poll, &entry, 1, -1), 1);
	CHECK_EQUAL("revents", entry.revents, POLLIN);
	check_pipe();
}

static void call_poll_timeout(void)
{
	struct pollfd entry = { .fd = ends[0], .events = POLLIN };
	long result = syscall(SYS_poll, &entry, 1, wait_ns / 1000000);

	CHECK(!result, "poll with a timeout: got %ld, %s", result, strerror(errno));
}

static void call_ppoll(void)
{
	struct pollfd entry = { .fd = ends[0], .events = POLLIN };
	struct timespec t = span(wait_ns);
	sigset_t mask;
	int result;

	sigfillset(&mask);
	result = ppoll(&entry, 1, &t, &mask);
	CHECK(!result, "ppoll: got %d, %s", result, strerror(errno));
}

static void call_select(void)
{
	struct timeval t = { wait_ns / 1000000000, wait_ns % 1000000000 / 1000 };
	fd_set set;
	long result;

	FD_ZERO(&set);
	FD_SET(ends[0], &set);
	result = syscall(SYS_select, ends[0] + 1, &set, NULL, NULL, &t);
	CHECK(!result, "select: got %ld, %s", result, strerror(errno));
}

static void call_pselect(void)
{
	struct timespec t = span(wait_ns);
	sigset_t mask;
	fd_set set;
	int result;

	FD_ZERO(&set);
	FD_SET(ends[0], &set);
	sigfillset(&mask);
	result = pselect(ends[0] + 1, &set, NULL, NULL, &t, &mask);
	CHECK(!result, "pselect: got %d, %s", result, strerror(errno));
}

static void call_pause(void)
{
	int before = handled;

	wake_later();
	CHECK(syscall(SYS_pause) == -1 && errno == EINTR, "pause: %s", strerror(errno));
	CHECK_EQUAL("signals that ended pause", handled, before + 1);
}

static void call_sigsuspend(void)
{
	int before = handled;
	sigset_t none, blocked, now;

	sigemptyset(&none);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	sigaddset(&blocked, SIGUSR2);
	pthread_sigmask(SIG_SETMASK, &blocked, NULL);
	wake_later();
	CHECK(sigsuspend(&none) == -1 && errno == EINTR, "sigsuspend: %s", strerror(errno));
	CHECK_EQUAL("signals that ended sigsuspend", handled, before + 1);
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	CHECK(!memcmp(&now, &blocked, 8), "the mask after sigsuspend is not the one before");
}

static void call_sigtimedwait(void)
{
	struct timespec t = span(wait_ns);
	sigset_t set;
	int result;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	result = sigtimedwait(&set, NULL, &t);
	CHECK(result == -1 && errno == EAGAIN, "sigtimedwait: got %d, %s", result, strerror(errno));
}

static void call_sigwaitinfo(void)
{
	sigset_t set;
	siginfo_t info;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	wake_later();
	CHECK_EQUAL("sigwaitinfo", sigwaitinfo(&set, &info), SIGUSR1);
}

/* Waits in the epoll set; the pipe or, with a timeout, nothing ends it. */
static void wait_in_set(long number, uint64_t limit, bool masked)
{
	struct epoll_event event;
	sigset_t mask;
	long result;

	sigfillset(&mask);
	result = syscall(number, events, &event, 1, limit, masked ? &mask : NULL, 8);
	if (wake) {
		CHECK(result == 1, "wait in an epoll set: got %ld, %s", result, strerror(errno));
		CHECK_EQUAL("data of the event", event.data.u64, 0x1234567890abcdef);
		check_pipe();
	} else {
		CHECK(!result, "wait in an epoll set with a timeout: got %ld, %s", result, strerror(errno));
	}
}

static void call_epoll_wait(void)
{
	wake_later();
	wait_in_set(SYS_epoll_wait, -1, false);
}

static void call_epoll_wait_timeout(void)
{
	wait_in_set(SYS_epoll_wait, wait_ns / 1000000, false);
}

static void call_epoll_pwait_timeout(void)
{
	sigset_t before, after;

	pthread_sigmask(SIG_SETMASK, NULL, &before);
	wait_in_set(SYS_epoll_pwait, wait_ns / 1000000, true);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	CHECK(!memcmp(&before, &after, 8), "the mask after epoll_pwait is not the one before");
}

static void call_epoll_pwait2_timeout(void)
{
	struct timespec t = span(wait_ns);

	wait_in_set(SYS_epoll_pwait2, (uint64_t)&t, true);
}

static void call_eventfd_read(void)
{
	uint64_t count = 0;

	wake_later();
	CHECK(read(events, &count, 8) == 8, "read of an eventfd: %s", strerror(errno));
	CHECK_EQUAL("count", count, 7);
}

static void call_timerfd_read(void)
{
	struct itimerspec t = { .it_value = span(wait_ns) };
	uint64_t ticks = 0;

	CHECK_CALL("timerfd_settime", timerfd_settime(events, 0, &t, NULL));
	CHECK(read(events, &ticks, 8) == 8, "read of a timerfd: %s", strerror(errno));
	CHECK_EQUAL("expirations", ticks, 1);
}

static void call_signalfd_read(void)
{
	struct signalfd_siginfo info = { 0 };

	wake_later();
	CHECK(read(events, &info, sizeof(info)) == sizeof(info), "read of a signalfd: %s", strerror(errno));
	CHECK_EQUAL("signal", info.ssi_signo, SIGUSR1);
}

/* Makes the descriptor that some of the calls wait on. */
static void make_events(const char *call)
{
	sigset_t set;

	if (!strncmp(call, "epoll", 5)) {
		struct epoll_event event = { .events = EPOLLIN, .data.u64 = 0x1234567890abcdef };

		events = CHECK_CALL("epoll_create1", epoll_create1(EPOLL_CLOEXEC));
		CHECK_CALL("epoll_ctl", epoll_ctl(events, EPOLL_CTL_ADD, ends[0], &event));
	} else if (!strncmp(call, "eventfd", 7)) {
		events = CHECK_CALL("eventfd", eventfd(0, EFD_CLOEXEC));
	} else if (!strcmp(call, "timerfd-read")) {
		events = CHECK_CALL("timerfd_create", timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
	} else if (!strcmp(call, "timerfd-realtime-read")) {
		events = CHECK_CALL("timerfd_create", timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC));
	} else if (!strncmp(call, "signalfd", 8)) {
		sigemptyset(&set);
		sigaddset(&set, SIGUSR1);
		pthread_sigmask(SIG_BLOCK, &set, NULL);
		events = CHECK_CALL("signalfd", signalfd(-1, &set, SFD_CLOEXEC));
	}
}

/* Makes room in the full pipe once per wait. */
static void *drainer(void *unused)
{
	char bytes[4096];

	(void)unused;
	for (int64_t at = check_clock(CLOCK_MONOTONIC) + wait_ns;; at += wait_ns) {
		struct timespec t = span(at);
		int error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);

		CHECK(!error, "clock_nanosleep of the second thread: %s", strerror(error));
		CHECK(read(ends[0], bytes, sizeof(bytes)) == sizeof(bytes), "read: %s", strerror(errno));
	}
	return NULL;
}

static const struct {
	const char *name;
	void (*call)(void);
	void (*wake)(void);
} calls[] = {
	{ "nanosleep", call_nanosleep, NULL },
	{ "clock_nanosleep-relative-monotonic", call_relative_monotonic, NULL },
	{ "clock_nanosleep-absolute-monotonic", call_absolute_monotonic, NULL },
	{ "clock_nanosleep-relative-realtime", call_relative_realtime, NULL },
	{ "clock_nanosleep-absolute-realtime", call_absolute_realtime, NULL },
	{ "clock_nanosleep-relative-boottime", call_relative_boottime, NULL },
	{ "clock_nanosleep-absolute-boottime", call_absolute_boottime, NULL },
	{ "pipe-read", call_pipe_read, wake_by_pipe },
	{ "pipe-write", call_pipe_write, NULL },
	{ "futex", call_futex, wake_by_futex },
	{ "futex-timeout", call_futex_timeout, NULL },
	{ "futex-absolute", call_futex_absolute, NULL },
	{ "poll", call_poll, wake_by_pipe },
	{ "poll-timeout", call_poll_timeout, NULL },
	{ "ppoll", call_ppoll, NULL },
	{ "select", call_select, NULL },
	{ "pselect", call_pselect, NULL },
	{ "pause", call_pause, wake_by_signal },
	{ "sigsuspend", call_sigsuspend, wake_by_signal },
	{ "sigtimedwait", call_sigtimedwait, NULL },
	{ "sigwaitinfo", call_sigwaitinfo, wake_by_signal },
	{ "epoll_wait", call_epoll_wait, wake_by_pipe },
	{ "epoll_wait-timeout", call_epoll_wait_timeout, NULL },
	{ "epoll_pwait-timeout", call_epoll_pwait_timeout, NULL },
	{ "epoll_pwait2-timeout", call_epoll_pwait2_timeout, NULL },
	{ "eventfd-read", call_eventfd_read, wake_by_eventfd },
	{ "timerfd-read", call_timerfd_read, NULL },
	{ "timerfd-realtime-read", call_timerfd_read, NULL },
	{ "signalfd-read", call_signalfd_read, wake_by_signal },
};

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_signal };
	char name[128];
	const char *call;
	unsigned long turns = 0, rounds;
	unsigned int i;
	pthread_t id;

	check_begin(argc, argv, "t5_blocked_call");
	call = check_option("call", "nanosleep");
	for (i = 0; strcmp(calls[i].name, call); i++)
		CHECK(i + 1 < sizeof(calls) / sizeof(calls[0]), "no call %s", call);
	snprintf(name, sizeof(name), "t5_blocked_call %s", call);
	check.name = name;
	wait_ns = check_number("wait", 3000) * 1000000;
	slack_ns = check_number("slack", 2000) * 1000000;
	rounds = check_number("rounds", 0);
	early_ns = calls[i].call == call_absolute_realtime ? check_number("skew", 1000) * 1000000 : 1000000;
	main_thread = pthread_self();
	CHECK_CALL("sigaction", sigaction(SIGUSR1, &action, NULL));
	CHECK_CALL("pipe", pipe2(ends, O_CLOEXEC));
	make_events(call);
	if (calls[i].call == call_pipe_write) {
		static char bytes[4096];

		while (fcntl(ends[1], F_SETFL, O_NONBLOCK), write(ends[1], bytes, sizeof(bytes)) > 0)
			;
		CHECK_CALL("fcntl", fcntl(ends[1], F_SETFL, 0));
		CHECK_EQUAL("pthread_create", pthread_create(&id, NULL, drainer, NULL), 0);
	}
	if (calls[i].wake) {
		wake = calls[i].wake;
		CHECK_EQUAL("pthread_create", pthread_create(&id, NULL, waker, NULL), 0);
	}
	if (check_option("stuck", NULL)) {
		void *directory = (void *)check_option("stuck", NULL);

		CHECK_EQUAL("pthread_create", pthread_create(&id, NULL, maker, directory), 0);
	}
	check_ready();
	/* The freeze is part of the time on a clock that goes on: a wait may end late by its length, never early. */
	do {
		int64_t elapsed, start = check_clock(CLOCK_MONOTONIC);

		calls[i].call();
		elapsed = check_clock(CLOCK_MONOTONIC) - start;
		if (calls[i].call != call_pipe_write)
			CHECK(elapsed >= wait_ns - early_ns, "ended early: expected %lld ms, got %lld ms",
			      (long long)wait_ns / 1000000, (long long)elapsed / 1000000);
		CHECK(elapsed <= wait_ns + slack_ns, "ended late: expected %lld ms, got %lld ms",
		      (long long)wait_ns / 1000000, (long long)elapsed / 1000000);
		if (elapsed - wait_ns > late_ns)
			late_ns = elapsed - wait_ns;
		turns++;
	} while (!check_finished() && turns != rounds);
	check_log("NOTE latest wait: %lld ms more than asked for", (long long)late_ns / 1000000);
	check_done(turns);
}
