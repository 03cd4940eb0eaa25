/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What every workload written in C shares: a program that prepares some state, goes on working until the test says
 * that it may finish, and checks all the time that everything is as it left it.
 *
 *   PROGRAM LOG [key=value ...]
 *
 * The program leaves the terminal and its parent behind (unless foreground=1), appends to LOG
 *
 *   READY <pid>                  when its state is prepared
 *   OK <name> iterations=<n>     after LOG.finish exists and everything was checked, exit status 0
 *   FAIL <name> <what>           at the first thing that is not as it should be, exit status 1
 *
 * and keeps the number of its last heartbeat in LOG.beat. Before it writes the next number it reads the last one: a
 * second copy, or a copy that was taken back to an earlier state, finds a number there that it did not write. beat=0
 * switches that off. pause=<milliseconds> is the time between two iterations, duration=<milliseconds> makes the program
 * finish by itself.
 */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct {
	const char *name;
	int argc;
	char **argv;
	char log[PATH_MAX];
	char finish[PATH_MAX];
	char beat[PATH_MAX];
	int log_fd;
	int ready_fd;
	pid_t pid;
	bool beating;
	unsigned long long beats;
	unsigned long pause_ms;
	unsigned long duration_ms;
	int64_t started;
	int64_t next_beat;
	pthread_mutex_t lock;
	bool over;
} check = { .log_fd = -1, .ready_fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER };

/* Time of a clock in nanoseconds. */
__attribute__((unused)) static int64_t check_clock(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

__attribute__((unused)) static void check_sleep(unsigned long milliseconds)
{
	struct timespec t = { milliseconds / 1000, milliseconds % 1000 * 1000000 };

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

/* Appends one line to the log, in one write so that lines of several threads do not mix. */
__attribute__((format(printf, 1, 2), unused)) static void check_log(const char *format, ...)
{
	char line[1024];
	va_list list;
	int length;

	va_start(list, format);
	length = vsnprintf(line, sizeof(line) - 1, format, list);
	va_end(list);
	if (length > (int)sizeof(line) - 2)
		length = sizeof(line) - 2;
	line[length++] = '\n';
	if (write(check.log_fd, line, length) != length)
		_exit(2);
}

/* Reports the first failure of all threads and ends the program. */
__attribute__((format(printf, 1, 2), noreturn, unused)) static void check_fail(const char *format, ...)
{
	char text[900];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	pthread_mutex_lock(&check.lock);
	if (!check.over) {
		check.over = true;
		check_log("FAIL %s %s", check.name, text);
	}
	_exit(1);
}

/* Ends the program if the condition does not hold. The format says what was expected and what was found. */
#define CHECK(condition, ...)                                   \
	do {                                                    \
		if (!(condition))                               \
			check_fail(__VA_ARGS__);                \
	} while (0)

/* Ends the program if two integers differ. */
#define CHECK_EQUAL(what, got, expected)                                                        \
	do {                                                                                    \
		long long got_ = (long long)(got), expected_ = (long long)(expected);           \
		if (got_ != expected_)                                                          \
			check_fail("%s: expected %lld (%#llx), got %lld (%#llx)", what,         \
				   expected_, (unsigned long long)expected_, got_,              \
				   (unsigned long long)got_);                                   \
	} while (0)

/* Ends the program, with the text of errno, if a call failed. */
#define CHECK_CALL(what, result)                                                        \
	({                                                                              \
		__typeof__(result) result_ = (result);                                  \
		if (result_ == (__typeof__(result))-1)                                  \
			check_fail("%s: %s", what, strerror(errno));                    \
		result_;                                                                \
	})

/* The value of an option, or what it is without one. */
__attribute__((unused)) static const char *check_option(const char *key, const char *otherwise)
{
	size_t length = strlen(key);

	for (int i = 2; i < check.argc; i++)
		if (!strncmp(check.argv[i], key, length) && check.argv[i][length] == '=')
			return check.argv[i] + length + 1;
	return otherwise;
}

__attribute__((unused)) static long long check_number(const char *key, long long otherwise)
{
	const char *text = check_option(key, NULL);

	return text ? strtoll(text, NULL, 0) : otherwise;
}

__attribute__((unused)) static void check_paths(const char *log)
{
	int a = snprintf(check.log, sizeof(check.log), "%s", log);
	int b = snprintf(check.finish, sizeof(check.finish), "%s.finish", log);
	int c = snprintf(check.beat, sizeof(check.beat), "%s.beat", log);

	if (a >= PATH_MAX || b >= PATH_MAX || c >= PATH_MAX)
		_exit(2);
}

/*
 * Reads the arguments and leaves everything behind that ties the program to who started it. The starter waits until
 * check_ready() or the end, and exits 0 or 1 accordingly.
 */
__attribute__((unused)) static void check_begin(int argc, char **argv, const char *name)
{
	int null, beat, ready[2];
	pid_t child;

	check.name = name;
	check.argc = argc;
	check.argv = argv;
	if (argc < 2) {
		fprintf(stderr, "usage: %s LOG [key=value ...]\n", argv[0]);
		exit(2);
	}
	check_paths(argv[1]);
	check.log_fd = open(check.log, O_WRONLY | O_APPEND | O_CREAT, 0666);
	null = open("/dev/null", O_RDONLY);
	/* Whoever the program becomes may write its heartbeat. Nothing of an earlier run counts. */
	beat = open(check.beat, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	if (beat >= 0)
		fchmod(beat, 0666);
	close(beat);
	unlink(check.finish);
	if (check.log_fd < 0 || null < 0 || beat < 0) {
		perror(check.log);
		exit(2);
	}
	if (!check_number("foreground", 0)) {
		if (pipe(ready))
			exit(2);
		child = fork();
		if (child < 0)
			exit(2);
		if (child) {
			char byte;

			close(ready[1]);
			_exit(read(ready[0], &byte, 1) == 1 ? 0 : 1);
		}
		close(ready[0]);
		check.ready_fd = ready[1];
		setsid();
	}
	dup2(null, 0);
	dup2(check.log_fd, 1);
	dup2(check.log_fd, 2);
	if (null > 2)
		close(null);
	setvbuf(stdout, NULL, _IONBF, 0);
	/* Descriptors that the starter left open are no business of the program. */
	for (int fd = 3; fd < 256; fd++)
		if (fd != check.log_fd && fd != check.ready_fd)
			close(fd);
	check.pid = getpid();
	check.beating = check_number("beat", 1);
	check.pause_ms = check_number("pause", 10);
	check.duration_ms = check_number("duration", 0);
}

/* Says that the state is prepared. */
__attribute__((unused)) static void check_ready(void)
{
	check.started = check_clock(CLOCK_MONOTONIC);
	check_log("READY %d", check.pid);
	if (check.ready_fd >= 0) {
		if (write(check.ready_fd, "r", 1) != 1)
			check_fail("the starter has gone");
		close(check.ready_fd);
		check.ready_fd = -1;
	}
}

/* Counts one heartbeat; called by one thread only. */
__attribute__((unused)) static void check_beat(void)
{
	char text[32] = "";
	int64_t now = check_clock(CLOCK_MONOTONIC);
	int fd;
	ssize_t length;

	if (!check.beating || now < check.next_beat)
		return;
	check.next_beat = now + 50000000;
	fd = open(check.beat, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	CHECK(fd >= 0, "heartbeat: open %s: %s", check.beat, strerror(errno));
	length = pread(fd, text, sizeof(text) - 1, 0);
	CHECK(length >= 0, "heartbeat: read: %s", strerror(errno));
	if (check.beats || length)
		CHECK(strtoull(text, NULL, 10) == check.beats, "heartbeat: expected %llu, got %s: another copy runs",
		      check.beats, text);
	check.beats++;
	snprintf(text, sizeof(text), "%020llu\n", check.beats);
	CHECK(pwrite(fd, text, 21, 0) == 21, "heartbeat: write: %s", strerror(errno));
	CHECK(!close(fd), "heartbeat: close: %s", strerror(errno));
}

/* Whether the test lets the program finish. Never blocks, beats, and checks what is the same in every program. */
__attribute__((unused)) static bool check_finished(void)
{
	struct stat st;

	CHECK_EQUAL("getpid", getpid(), check.pid);
	check_beat();
	if (check.duration_ms && check_clock(CLOCK_MONOTONIC) - check.started > (int64_t)check.duration_ms * 1000000)
		return true;
	return !stat(check.finish, &st);
}

/* One turn of the main loop: a pause, then check_finished(). */
__attribute__((unused)) static bool check_turn(void)
{
	check_sleep(check.pause_ms);
	return check_finished();
}

/* Says that all is well and ends the program. */
__attribute__((noreturn, unused)) static void check_done(unsigned long long iterations)
{
	pthread_mutex_lock(&check.lock);
	if (!check.over) {
		check.over = true;
		check_log("OK %s iterations=%llu", check.name, iterations);
	}
	_exit(0);
}

/* A word that depends on a seed and a place. */
__attribute__((unused)) static uint64_t check_word(uint64_t seed, uint64_t place)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15u + place * 0xbf58476d1ce4e5b9u + 0x94d049bb133111ebu;

	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9u;
	x ^= x >> 27;
	return x;
}

/* Fills memory with words of a seed; the length is a multiple of 8. */
__attribute__((unused)) static void check_fill(void *start, size_t length, uint64_t seed)
{
	uint64_t *word = start;

	for (size_t i = 0; i < length / 8; i++)
		word[i] = check_word(seed, i);
}

/* Ends the program if memory is not as check_fill() left it. */
__attribute__((unused)) static void check_filled(const char *what, const void *start, size_t length, uint64_t seed)
{
	const uint64_t *word = start;

	for (size_t i = 0; i < length / 8; i++)
		CHECK(word[i] == check_word(seed, i), "%s at %p + %zu: expected %#llx, got %#llx", what, start, i * 8,
		      (unsigned long long)check_word(seed, i), (unsigned long long)word[i]);
}

/* Ends the program if memory is not zero. */
__attribute__((unused)) static void check_zero(const char *what, const void *start, size_t length)
{
	const uint64_t *word = start;

	for (size_t i = 0; i < length / 8; i++)
		CHECK(!word[i], "%s at %p + %zu: expected 0, got %#llx", what, start, i * 8,
		      (unsigned long long)word[i]);
}

/* A number in a line of /proc/self/status or a file like it; -1 without such a line. */
__attribute__((unused)) static long long check_status(const char *path, const char *key, int base)
{
	char line[4096];
	long long value = -1;
	FILE *file = fopen(path, "re");

	CHECK(file, "%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ':') {
			value = strtoull(line + strlen(key) + 1, NULL, base);
			break;
		}
	fclose(file);
	return value;
}

#endif
