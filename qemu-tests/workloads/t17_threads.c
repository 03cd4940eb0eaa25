/* SPDX-License-Identifier: GPL-2.0 */
/* T17: threads of one process with different users, groups and capabilities, which only system calls without libc make. */
#include "check.h"
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static atomic_int prepared;
static atomic_bool over;

struct who {
	uid_t uid;
	gid_t gid;
	gid_t groups[2];
	bool all; /* capabilities */
};

static struct who everybody[] = {
	{ 0, 0, { 7, 8 }, true }, { 1000, 1001, { 20, 30 }, false }, { 65534, 65534, { 40, 50 }, false }, { 0, 5, { 60, 70 }, true }
};

static uint32_t effective(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { 0 };

	CHECK_CALL("capget", syscall(SYS_capget, &header, data));
	return data[0].effective;
}

static void become(const struct who *who)
{
	CHECK_CALL("setgroups", syscall(SYS_setgroups, 2, who->groups));
	CHECK_CALL("setresgid", syscall(SYS_setresgid, who->gid, who->gid, who->gid));
	CHECK_CALL("setresuid", syscall(SYS_setresuid, who->uid, who->uid, who->uid));
}

static void look(const struct who *who)
{
	gid_t groups[8] = { 0 };

	CHECK_EQUAL("uid", syscall(SYS_getuid), who->uid);
	CHECK_EQUAL("euid", syscall(SYS_geteuid), who->uid);
	CHECK_EQUAL("gid", syscall(SYS_getgid), who->gid);
	CHECK_EQUAL("number of groups", syscall(SYS_getgroups, 8, groups), 2);
	CHECK(groups[0] == who->groups[0] && groups[1] == who->groups[1], "groups %u, %u", groups[0], groups[1]);
	CHECK_EQUAL("capabilities", effective() != 0, who->all);
}

static void *thread(void *who)
{
	become(who);
	prepared++;
	while (!over) {
		look(who);
		check_sleep(5);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	enum { THREADS = sizeof(everybody) / sizeof(everybody[0]) - 1 };
	pthread_t id[THREADS];
	unsigned long turns = 0;

	check_begin(argc, argv, "t17_threads");
	for (int i = 0; i < THREADS; i++)
		CHECK_EQUAL("pthread_create", pthread_create(&id[i], NULL, thread, &everybody[i + 1]), 0);
	while (prepared < THREADS)
		check_sleep(1);
	become(&everybody[0]);
	check_ready();
	do {
		look(&everybody[0]);
		turns++;
	} while (!check_turn());
	over = true;
	for (int i = 0; i < THREADS; i++)
		CHECK_EQUAL("pthread_join", pthread_join(id[i], NULL), 0);
	check_done(turns);
}
