/* SPDX-License-Identifier: GPL-2.0 */
/*
 * F13 and T6: eventfds, signalfds, timerfds, and epoll sets that watch all of them in every mode, also under numbers that
 * mean another file by now. Counts, expirations and events are neither lost nor doubled.
 *
 *   early=<ms>     how much earlier than expected a clock may be that is not the program's own (default 0)
 */
#include "check.h"
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#define MS 1000000ll
#define PERIOD (70 * MS)
#define PERIOD_UNREAD (110 * MS)
#define PERIOD_BOOTTIME (90 * MS)
#define LONG (3600ll * 1000 * MS)
/* How far apart the wall clocks of two hosts may be. */
#define SKEW (3000 * MS)

static int count, big_count, semaphore, flow, signals;
static int never_set, only_period, expired, far, far_realtime, span_realtime, periodic, unread, boottime;
static int64_t first_periodic, first_unread, first_boottime, far_at, far_realtime_at, span_at;
static uint64_t read_periodic, read_boottime;
static int set, inner, level[2], edge[2], once[2], spent[2], renamed[2], nested;
static atomic_bool closing;
static uint64_t sent, received;

static struct timespec span(int64_t nanoseconds)
{
	return (struct timespec){ nanoseconds / 1000000000, nanoseconds % 1000000000 };
}

static int timer(clockid_t clock, int flags, int64_t first, int64_t period)
{
	struct itimerspec t = { .it_value = span(first), .it_interval = span(period) };
	int fd = CHECK_CALL("timerfd_create", timerfd_create(clock, TFD_NONBLOCK | TFD_CLOEXEC));

	if (first || period)
		CHECK_CALL("timerfd_settime", timerfd_settime(fd, flags, &t, NULL));
	return fd;
}

static int64_t left(int fd, int64_t period)
{
	struct itimerspec t;

	CHECK_CALL("timerfd_gettime", timerfd_gettime(fd, &t));
	CHECK_EQUAL("period", t.it_interval.tv_sec * 1000000000ll + t.it_interval.tv_nsec, period);
	return t.it_value.tv_sec * 1000000000ll + t.it_value.tv_nsec;
}

static uint64_t expirations(const char *what, int fd)
{
	uint64_t ticks = 0;
	ssize_t length = read(fd, &ticks, 8);

	CHECK(length == 8 || (length == -1 && errno == EAGAIN), "%s: %s", what, strerror(errno));
	return ticks;
}

/* How often a periodic timer has expired since it was set. */
static uint64_t due(clockid_t clock, int64_t first, int64_t period)
{
	int64_t now = check_clock(clock);

	return now < first ? 0 : (now - first) / period + 1;
}

/* Reads a periodic timer; what has been read until now must be what the clock says. */
static void check_periodic(const char *what, int fd, clockid_t clock, int64_t first, int64_t period, uint64_t *sum)
{
	int64_t deadline = check_clock(CLOCK_MONOTONIC) + 10000 * MS;
	uint64_t before = due(clock, first, period);

	/* The interrupt of the timer may come a little after its time. */
	while ((*sum += expirations(what, fd)) < before && check_clock(CLOCK_MONOTONIC) < deadline)
		check_sleep(1);
	CHECK(*sum >= before && *sum <= due(clock, first, period), "%s: %llu expirations, expected %llu to %llu", what,
	      (unsigned long long)*sum, (unsigned long long)before, (unsigned long long)due(clock, first, period));
}

static void check_far(const char *what, int fd, clockid_t clock, int64_t at, int64_t early)
{
	int64_t before = at - check_clock(clock), value = left(fd, 0), after = at - check_clock(clock);

	CHECK(value <= before + 50 * MS + early && value >= after - early, "%s: %lld us left, expected %lld to %lld", what,
	      (long long)value / 1000, (long long)after / 1000, (long long)before / 1000);
	CHECK_EQUAL(what, expirations(what, fd), 0);
}

static void *sender(void *unused)
{
	(void)unused;
	while (!closing) {
		CHECK_CALL("eventfd_write", eventfd_write(flow, 1 + sent % 5));
		sent += 1 + sent % 5;
		if (sent % 11 == 0)
			check_sleep(1);
	}
	CHECK_CALL("eventfd_write", eventfd_write(flow, 1000000));
	return NULL;
}

static void *receiver(void *unused)
{
	uint64_t value = 0;

	(void)unused;
	while (value < 1000000) {
		CHECK_EQUAL("read of the flow", read(flow, &value, 8), 8);
		received += value;
	}
	received -= 1000000;
	return NULL;
}

static void watch(int epoll, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = { .events = events, .data.u64 = data };

	CHECK_CALL("epoll_ctl", epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

static void make_pipe(int ends[2])
{
	CHECK_CALL("pipe2", pipe2(ends, O_NONBLOCK | O_CLOEXEC));
	CHECK_EQUAL("write", write(ends[1], "x", 1), 1);
}

/* Waits once; returns a bit for each number of data that has come. */
static uint64_t events_of(int epoll)
{
	struct epoll_event event[64];
	int found = CHECK_CALL("epoll_wait", epoll_wait(epoll, event, 64, 0));
	uint64_t bits = 0;

	for (int i = 0; i < found; i++) {
		uint64_t number = event[i].data.u64 & 63;

		CHECK_EQUAL("data of an event", event[i].data.u64, 0xabcdef0000000000 | number);
		CHECK(!(bits & 1ull << number), "event %llu comes twice", (unsigned long long)number);
		bits |= 1ull << number;
	}
	return bits;
}

#define DATA(number) (0xabcdef0000000000 | (number))

static void make_sets(void)
{
	int old;

	set = CHECK_CALL("epoll_create1", epoll_create1(EPOLL_CLOEXEC));
	inner = CHECK_CALL("epoll_create1", epoll_create1(0));
	nested = CHECK_CALL("eventfd", eventfd(0, EFD_NONBLOCK));
	watch(inner, nested, EPOLLIN, DATA(0));
	make_pipe(level);
	make_pipe(edge);
	make_pipe(once);
	make_pipe(spent);
	make_pipe(renamed);
	/* One that has reported its event and waits to be armed again. */
	watch(set, spent[0], EPOLLIN | EPOLLONESHOT, DATA(4));
	CHECK_EQUAL("event of the spent one", events_of(set), 1 << 4);
	watch(set, level[0], EPOLLIN, DATA(1));
	watch(set, edge[0], EPOLLIN | EPOLLET, DATA(2));
	watch(set, once[1], EPOLLIN | EPOLLONESHOT, DATA(3));
	/* Its number means another file afterwards. */
	old = renamed[0];
	renamed[0] = CHECK_CALL("fcntl", fcntl(old, F_DUPFD_CLOEXEC, 200));
	watch(set, old, EPOLLIN, DATA(5));
	CHECK_CALL("dup2", dup2(level[0], old));
	watch(set, old, EPOLLIN | EPOLLET, DATA(6));
	/* One that was added under a number that is closed. */
	old = CHECK_CALL("fcntl", fcntl(renamed[1], F_DUPFD_CLOEXEC, 300));
	watch(set, old, EPOLLOUT | EPOLLET, DATA(7));
	close(old);
	watch(set, inner, EPOLLIN, DATA(8));
	watch(set, far, EPOLLIN, DATA(9));
	watch(set, signals, EPOLLIN, DATA(10));
	watch(set, nested, EPOLLIN | EPOLLEXCLUSIVE, DATA(11));
	CHECK_EQUAL("events of the set", events_of(set), 1 << 1 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10);
}

static void check_sets(void)
{
	const uint64_t always = 1 << 1 | 1 << 5 | 1 << 10, sometimes = 1 << 2 | 1 << 6 | 1 << 7;
	uint64_t found = events_of(set);

	/* What is level-triggered comes each time; an edge may come again after a move; nothing else may. */
	CHECK((found & always) == always && !(found & ~(always | sometimes)), "events of the set: got %#llx",
	      (unsigned long long)found);
	CHECK_EQUAL("events of the inner set", events_of(inner), 0);
}

/* At the end: every entry still does what it was made for. */
static void use_sets(void)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT, .data.u64 = DATA(4) };
	struct signalfd_siginfo info;

	events_of(set);
	CHECK_CALL("rearm", epoll_ctl(set, EPOLL_CTL_MOD, spent[0], &event));
	CHECK(events_of(set) & 1 << 4, "an entry that was armed again says nothing");
	CHECK(!(events_of(set) & 1 << 4), "an entry says more than once what it was to say once");
	close(once[0]);
	CHECK(events_of(set) & 1 << 3, "an entry with one event has lost it");
	CHECK(!(events_of(set) & 1 << 3), "an entry says more than once what it was to say once");
	CHECK_EQUAL("write", write(edge[1], "y", 1), 1);
	CHECK(events_of(set) & 1 << 2, "a new edge is not told");
	CHECK(!(events_of(set) & 1 << 2), "an edge is told twice");
	CHECK_CALL("eventfd_write", eventfd_write(nested, 1));
	CHECK((events_of(set) & (1 << 8 | 1 << 11)) == (1 << 8 | 1 << 11), "the nested set or its eventfd says nothing");
	CHECK_EQUAL("events of the inner set", events_of(inner), 1);
	while (read(signals, &info, sizeof(info)) == sizeof(info))
		;
	CHECK(!(events_of(set) & 1 << 10), "an empty signalfd says something");
	CHECK_EQUAL("read", read(renamed[0], &info, 1), 1);
	CHECK(!(events_of(set) & 1 << 5), "an empty pipe says something");
	CHECK_CALL("epoll_ctl", epoll_ctl(set, EPOLL_CTL_DEL, level[0], NULL));
	CHECK(!(events_of(set) & 1 << 1), "an entry that was taken out says something");
}

static void make_signals(void)
{
	sigset_t mask;
	union sigval value;

	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR2);
	sigaddset(&mask, SIGRTMIN + 3);
	sigaddset(&mask, SIGRTMAX);
	CHECK_CALL("sigprocmask", sigprocmask(SIG_BLOCK, &mask, NULL));
	sigdelset(&mask, SIGRTMAX);
	signals = CHECK_CALL("signalfd", signalfd(-1, &mask, SFD_NONBLOCK));
	for (int i = 1; i <= 3; i++) {
		value.sival_int = i;
		CHECK_CALL("sigqueue", sigqueue(getpid(), SIGRTMIN + 3, value));
	}
	CHECK_CALL("sigqueue", sigqueue(getpid(), SIGRTMAX, value));
}

static void check_signals(void)
{
	struct signalfd_siginfo info;

	for (int i = 1; i <= 3; i++) {
		CHECK_EQUAL("read of the signalfd", read(signals, &info, sizeof(info)), (ssize_t)sizeof(info));
		CHECK_EQUAL("signal", info.ssi_signo, (unsigned int)SIGRTMIN + 3);
		CHECK_EQUAL("value", info.ssi_int, i);
	}
	CHECK(read(signals, &info, sizeof(info)) == -1 && errno == EAGAIN, "a signal of another number is read");
	raise(SIGUSR2);
	CHECK_EQUAL("read of the signalfd", read(signals, &info, sizeof(info)), (ssize_t)sizeof(info));
	CHECK_EQUAL("signal", info.ssi_signo, SIGUSR2);
}

int main(int argc, char **argv)
{
	unsigned long turns = 0;
	uint64_t read_unread = 0, value;
	int64_t early;
	pthread_t id[2];
	int copy;

	check_begin(argc, argv, "f13_events");
	early = check_number("early", 0) * MS;
	count = CHECK_CALL("eventfd", eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
	CHECK_CALL("eventfd_write", eventfd_write(count, 0x123456789abcdef));
	copy = CHECK_CALL("fcntl", fcntl(count, F_DUPFD, 150));
	big_count = CHECK_CALL("eventfd", eventfd(5, EFD_NONBLOCK));
	CHECK_CALL("eventfd_write", eventfd_write(big_count, UINT64_MAX - 1 - 5));
	semaphore = CHECK_CALL("eventfd", eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK));
	flow = CHECK_CALL("eventfd", eventfd(0, 0));
	make_signals();

	never_set = timer(CLOCK_MONOTONIC, 0, 0, 0);
	only_period = timer(CLOCK_MONOTONIC, 0, 0, PERIOD);
	expired = timer(CLOCK_MONOTONIC, 0, 1, 0);
	far_at = check_clock(CLOCK_MONOTONIC) + LONG;
	far = timer(CLOCK_MONOTONIC, TFD_TIMER_ABSTIME, far_at, 0);
	far_realtime_at = check_clock(CLOCK_REALTIME) + LONG;
	far_realtime = timer(CLOCK_REALTIME, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, far_realtime_at, 0);
	span_at = check_clock(CLOCK_MONOTONIC) + LONG;
	span_realtime = timer(CLOCK_REALTIME, 0, LONG, 0);
	first_periodic = check_clock(CLOCK_MONOTONIC) + PERIOD;
	periodic = timer(CLOCK_MONOTONIC, TFD_TIMER_ABSTIME, first_periodic, PERIOD);
	first_unread = check_clock(CLOCK_MONOTONIC) + PERIOD_UNREAD;
	unread = timer(CLOCK_MONOTONIC, TFD_TIMER_ABSTIME, first_unread, PERIOD_UNREAD);
	first_boottime = check_clock(CLOCK_BOOTTIME) + PERIOD_BOOTTIME;
	boottime = timer(CLOCK_BOOTTIME, TFD_TIMER_ABSTIME, first_boottime, PERIOD_BOOTTIME);
	make_sets();
	CHECK_EQUAL("pthread_create", pthread_create(&id[0], NULL, sender, NULL), 0);
	CHECK_EQUAL("pthread_create", pthread_create(&id[1], NULL, receiver, NULL), 0);
	check_ready();

	do {
		struct pollfd entry = { .fd = big_count, .events = POLLIN | POLLOUT };

		CHECK_EQUAL("poll of the full eventfd", poll(&entry, 1, 0), 1);
		CHECK_EQUAL("revents", entry.revents, POLLIN);
		CHECK_EQUAL("timer that is not set", left(never_set, 0), 0);
		CHECK_EQUAL("timer that is not set", expirations("timer that is not set", never_set), 0);
		CHECK_EQUAL("timer with a period that is not set", left(only_period, PERIOD), 0);
		CHECK_EQUAL("timer with a period that is not set", expirations("timer that is not set", only_period), 0);
		CHECK_EQUAL("timer that has expired", left(expired, 0), 0);
		check_far("far timer", far, CLOCK_MONOTONIC, far_at, 0);
		check_far("far timer of the wall clock", far_realtime, CLOCK_REALTIME, far_realtime_at, SKEW);
		check_far("span of the wall clock", span_realtime, CLOCK_MONOTONIC, span_at, early);
		check_periodic("periodic timer", periodic, CLOCK_MONOTONIC, first_periodic, PERIOD, &read_periodic);
		check_periodic("timer of the boot clock", boottime, CLOCK_BOOTTIME, first_boottime, PERIOD_BOOTTIME,
			       &read_boottime);
		check_sets();
		CHECK_EQUAL("F_GETFL", fcntl(count, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
		CHECK_EQUAL("F_GETFL", fcntl(flow, F_GETFL) & O_NONBLOCK, 0);
		CHECK_EQUAL("F_GETFD", fcntl(count, F_GETFD), FD_CLOEXEC);
		CHECK_EQUAL("F_GETFD", fcntl(copy, F_GETFD), 0);
		turns++;
	} while (!check_turn());

	CHECK_EQUAL("expirations of the expired timer", expirations("expired timer", expired), 1);
	CHECK_EQUAL("expirations of the expired timer", expirations("expired timer", expired), 0);
	check_periodic("timer that nobody read", unread, CLOCK_MONOTONIC, first_unread, PERIOD_UNREAD, &read_unread);
	CHECK_CALL("eventfd_write", eventfd_write(copy, 1));
	CHECK_CALL("eventfd_read", eventfd_read(count, &value));
	CHECK_EQUAL("count", value, 0x123456789abcdf0);
	CHECK_CALL("eventfd_read", eventfd_read(big_count, &value));
	CHECK_EQUAL("full count", value, UINT64_MAX - 1);
	for (int i = 0; i < 3; i++) {
		CHECK_CALL("eventfd_read", eventfd_read(semaphore, &value));
		CHECK_EQUAL("semaphore", value, 1);
	}
	CHECK(eventfd_read(semaphore, &value) == -1 && errno == EAGAIN, "the semaphore has more");
	check_signals();
	raise(SIGUSR2);
	use_sets();
	closing = true;
	for (int i = 0; i < 2; i++)
		pthread_join(id[i], NULL);
	CHECK_EQUAL("sum of the flow", received, sent);
	check_done(turns);
}
