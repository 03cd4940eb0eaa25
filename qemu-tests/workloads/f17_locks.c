/* SPDX-License-Identifier: GPL-2.0 */
/*
 * F17: locks of the process, of an open file, and of whole files. A second open file of each is asked all the time what is
 * locked; a thread waits for a lock that is given back at the end.
 */
#include "check.h"
#include <sys/file.h>

enum { OF_PROCESS, OF_FILE, WHOLE, FILES };

static int held[FILES], probe[FILES];
static atomic_bool taken;

static void lock(int fd, int command, short type, off_t start, off_t length)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length };

	CHECK_CALL("fcntl", fcntl(fd, command, &lock));
}

/* The lock that keeps another open file from taking a byte for itself. */
static void expect(int fd, off_t at, short type, off_t start, off_t length, pid_t pid)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };

	CHECK_CALL("F_OFD_GETLK", fcntl(fd, F_OFD_GETLK, &lock));
	CHECK(lock.l_type == type, "lock of byte %lld: expected type %d, got %d", (long long)at, type, lock.l_type);
	if (type == F_UNLCK)
		return;
	CHECK_EQUAL("start of a lock", lock.l_start, start);
	CHECK_EQUAL("length of a lock", lock.l_len, length);
	CHECK_EQUAL("owner of a lock", lock.l_pid, pid);
}

static void *waiter(void *unused)
{
	(void)unused;
	lock(probe[OF_FILE], F_OFD_SETLKW, F_WRLCK, 0, 0);
	taken = true;
	return NULL;
}

int main(int argc, char **argv)
{
	static const char *const names[] = { "process", "open", "whole" };
	unsigned long turns = 0;
	char path[PATH_MAX + 16];
	pthread_t id;

	check_begin(argc, argv, "f17_locks");
	for (int i = 0; i < FILES; i++) {
		snprintf(path, sizeof(path), "%s.%s", check.log, names[i]);
		held[i] = CHECK_CALL("open", open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
		probe[i] = CHECK_CALL("open", open(path, O_RDWR | O_CLOEXEC));
	}
	lock(held[OF_PROCESS], F_SETLK, F_WRLCK, 0x40000000, 510);
	lock(held[OF_PROCESS], F_SETLK, F_RDLCK, 10, 5);
	lock(held[OF_PROCESS], F_SETLK, F_WRLCK, 0x7000000000, 0);
	for (int i = 0; i < 100; i++)
		lock(held[OF_PROCESS], F_SETLK, F_WRLCK, 1000 + 4 * i, 2);
	lock(held[OF_FILE], F_OFD_SETLK, F_WRLCK, 5, 20);
	lock(held[OF_FILE], F_OFD_SETLK, F_RDLCK, 100, 1);
	CHECK_CALL("flock", flock(held[WHOLE], LOCK_EX));
	CHECK_EQUAL("pthread_create", pthread_create(&id, NULL, waiter, NULL), 0);
	check_ready();

	do {
		int fd = probe[OF_PROCESS];

		expect(fd, 0x40000005, F_WRLCK, 0x40000000, 510, check.pid);
		expect(fd, 12, F_RDLCK, 10, 5, check.pid);
		expect(fd, 0x7f00000000, F_WRLCK, 0x7000000000, 0, check.pid);
		expect(fd, 1000 + 4 * 77, F_WRLCK, 1000 + 4 * 77, 2, check.pid);
		expect(fd, 1002 + 4 * 77, F_UNLCK, 0, 0, 0);
		expect(fd, 15, F_UNLCK, 0, 0, 0);
		expect(probe[OF_FILE], 24, F_WRLCK, 5, 20, -1);
		expect(probe[OF_FILE], 100, F_RDLCK, 100, 1, -1);
		expect(probe[OF_FILE], 25, F_UNLCK, 0, 0, 0);
		CHECK(flock(probe[WHOLE], LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK, "flock: %s", strerror(errno));
		CHECK(!taken, "a lock that is held was taken");
		turns++;
	} while (!check_turn());

	lock(held[OF_FILE], F_OFD_SETLK, F_UNLCK, 0, 0);
	CHECK_EQUAL("pthread_join", pthread_join(id, NULL), 0);
	CHECK(taken, "the lock that was waited for was not taken");
	CHECK_CALL("flock", flock(held[WHOLE], LOCK_UN));
	CHECK_CALL("flock", flock(probe[WHOLE], LOCK_EX | LOCK_NB));
	lock(held[OF_PROCESS], F_SETLK, F_UNLCK, 0x40000000, 510);
	expect(probe[OF_PROCESS], 0x40000005, F_UNLCK, 0, 0, 0);
	expect(probe[OF_PROCESS], 12, F_RDLCK, 10, 5, check.pid);
	check_done(turns);
}
