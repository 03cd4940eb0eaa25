/* SPDX-License-Identifier: GPL-2.0 */
/* The devices that have no state of their own: null, zero, full, random, urandom. */
#include "check.h"
#include <sys/sysmacros.h>

static const struct {
	const char *path;
	int flags, minor;
} devices[] = {
	{ "/dev/null", O_RDWR, 3 },
	{ "/dev/null", O_WRONLY | O_APPEND | O_CLOEXEC, 3 },
	{ "/dev/zero", O_RDONLY, 5 },
	{ "/dev/full", O_WRONLY | O_NONBLOCK, 7 },
	{ "/dev/random", O_RDONLY, 8 },
	{ "/dev/urandom", O_RDONLY | O_CLOEXEC, 9 },
};
enum { DEVICES = sizeof(devices) / sizeof(devices[0]), FIRST = 10 };

int main(int argc, char **argv)
{
	unsigned char bytes[64], last[64] = { 0 };
	unsigned long turns = 0;
	int flags[DEVICES];

	check_begin(argc, argv, "f1_devices");
	for (int i = 0; i < DEVICES; i++) {
		int fd = CHECK_CALL(devices[i].path, open(devices[i].path, devices[i].flags));

		CHECK_CALL("dup3", dup3(fd, FIRST + i, devices[i].flags & O_CLOEXEC));
		close(fd);
		flags[i] = fcntl(FIRST + i, F_GETFL);
	}
	check_ready();
	do {
		for (int i = 0; i < DEVICES; i++) {
			struct stat st;

			CHECK_EQUAL(devices[i].path, fcntl(FIRST + i, F_GETFL), flags[i]);
			CHECK_EQUAL(devices[i].path, fcntl(FIRST + i, F_GETFD), devices[i].flags & O_CLOEXEC ? FD_CLOEXEC : 0);
			CHECK_CALL("fstat", fstat(FIRST + i, &st));
			CHECK(S_ISCHR(st.st_mode), "%s is no character device", devices[i].path);
			CHECK_EQUAL("major number", major(st.st_rdev), 1);
			CHECK_EQUAL("minor number", minor(st.st_rdev), devices[i].minor);
		}
		CHECK_EQUAL("read of null", read(FIRST, bytes, 64), 0);
		CHECK_EQUAL("write to null", write(FIRST + 1, bytes, 64), 64);
		memset(bytes, 1, 64);
		CHECK_EQUAL("read of zero", read(FIRST + 2, bytes, 64), 64);
		check_zero("zero", bytes, 64);
		CHECK(write(FIRST + 3, bytes, 1) == -1 && errno == ENOSPC, "write to full: %s", strerror(errno));
		for (int i = 4; i < 6; i++) {
			CHECK_EQUAL("read of random", read(FIRST + i, bytes, 64), 64);
			CHECK(memcmp(bytes, last, 64), "random bytes come twice");
			memcpy(last, bytes, 64);
		}
		turns++;
	} while (!check_turn());
	check_done(turns);
}
