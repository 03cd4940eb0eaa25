/* SPDX-License-Identifier: GPL-2.0 */
/* M9: what a process chooses for its memory as a whole: barriers, huge pages, no writable code; and sealed memory. */
#include "check.h"
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define LENGTH (64 * 4096)
#define CMD_GLOBAL (1 << 1)
#define REGISTER_GLOBAL (1 << 2)
#define CMD_PRIVATE (1 << 3)
#define REGISTER_PRIVATE (1 << 4)
#define CMD_SYNC_CORE (1 << 5)
#define REGISTER_SYNC_CORE (1 << 6)
#define CMD_RSEQ (1 << 7)
#define REGISTER_RSEQ (1 << 8)
#define GET_REGISTRATIONS (1 << 9)
#define THP_EXCEPT_ADVISED (1 << 1)

#ifndef SYS_mseal
#define SYS_mseal 462
#endif

static long membarrier(int command)
{
	return syscall(SYS_membarrier, command, 0, 0);
}

static void *map(int protection)
{
	void *start = mmap(NULL, LENGTH, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(start != MAP_FAILED, "mmap: %s", strerror(errno));
	return start;
}

int main(int argc, char **argv)
{
	bool advised, seals;
	const int registered = REGISTER_PRIVATE | REGISTER_SYNC_CORE | REGISTER_RSEQ;
	unsigned long turns = 0;
	void *sealed, *writable;
	int huge;

	check_begin(argc, argv, "m9_settings");
	advised = check_number("advised", 0);
	CHECK_CALL("membarrier", membarrier(REGISTER_PRIVATE));
	CHECK_CALL("membarrier", membarrier(REGISTER_SYNC_CORE));
	CHECK_CALL("membarrier", membarrier(REGISTER_RSEQ));
	CHECK_EQUAL("registrations", membarrier(GET_REGISTRATIONS), registered);
	CHECK_CALL("PR_SET_THP_DISABLE", prctl(PR_SET_THP_DISABLE, 1, advised ? THP_EXCEPT_ADVISED : 0, 0, 0));
	huge = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
	CHECK_EQUAL("PR_GET_THP_DISABLE", huge, advised ? 3 : 1);
	writable = map(PROT_READ | PROT_WRITE);
	check_fill(writable, LENGTH, 1);
	sealed = map(PROT_READ | PROT_WRITE);
	check_fill(sealed, LENGTH, 2);
	CHECK_CALL("mprotect", mprotect(sealed, LENGTH, PROT_READ));
	seals = !syscall(SYS_mseal, sealed, LENGTH, 0);
	CHECK(seals || errno == ENOSYS, "mseal: %s", strerror(errno));
	CHECK_CALL("PR_SET_MDWE", prctl(65, 1 | 2, 0, 0, 0));
	check_ready();
	do {
		CHECK_EQUAL("registrations", membarrier(GET_REGISTRATIONS), registered);
		CHECK_CALL("membarrier", membarrier(CMD_PRIVATE));
		CHECK_CALL("membarrier", membarrier(CMD_SYNC_CORE));
		CHECK_CALL("membarrier", membarrier(CMD_RSEQ));
		CHECK_EQUAL("PR_GET_THP_DISABLE", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), huge);
		CHECK_EQUAL("PR_GET_MDWE", prctl(66, 0, 0, 0, 0), 1 | 2);
		CHECK(mprotect(writable, LENGTH, PROT_READ | PROT_EXEC) == -1 && errno == EACCES,
		      "memory that was writable became executable");
		if (seals) {
			CHECK(munmap(sealed, LENGTH) == -1 && errno == EPERM, "sealed memory was unmapped");
			CHECK(mprotect(sealed, LENGTH, PROT_READ | PROT_WRITE) == -1 && errno == EPERM,
			      "sealed memory became writable");
		}
		check_filled("memory", writable, LENGTH, 1);
		check_filled("sealed memory", sealed, LENGTH, 2);
		turns++;
	} while (!check_turn());
	check_done(turns);
}
