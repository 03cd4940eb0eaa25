/* SPDX-License-Identifier: GPL-2.0 */
/*
 * T17: starts as root and becomes user 1000 with groups, some capabilities in each set, secure bits, no_new_privs and
 * limits of its own. All threads must stay exactly that. keep_root=1 stays root and changes only the capabilities.
 * nnp=0 leaves no_new_privs out.
 */
#include "check.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum { THREADS = 3, LIMITS = 16 };

struct identity {
	char text[2048];
	long securebits, no_new_privs, dumpable, keepcaps;
	struct rlimit limits[LIMITS];
};

static struct identity first;
static atomic_bool closing;

/* The lines of /proc/thread-self/status that say who a thread is. */
static void identify(struct identity *identity)
{
	static const char *const keys[] = { "Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:",
					    "NoNewPrivs:" };
	char path[64], line[1024];
	FILE *file;

	memset(identity, 0, sizeof(*identity));
	snprintf(path, sizeof(path), "/proc/self/task/%ld/status", syscall(SYS_gettid));
	file = fopen(path, "re");
	CHECK(file, "%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), file))
		for (unsigned int i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
			if (!strncmp(line, keys[i], strlen(keys[i]))) {
				line[strcspn(line, "\n")] = ';';
				strncat(identity->text, line, sizeof(identity->text) - strlen(identity->text) - 1);
			}
	fclose(file);
	identity->securebits = prctl(PR_GET_SECUREBITS);
	identity->no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
	identity->dumpable = prctl(PR_GET_DUMPABLE);
	identity->keepcaps = prctl(PR_GET_KEEPCAPS);
	for (int i = 0; i < LIMITS; i++)
		getrlimit(i, &identity->limits[i]);
}

static void compare(void)
{
	struct identity now;

	identify(&now);
	CHECK(!strcmp(now.text, first.text), "identity: expected %s got %s", first.text, now.text);
	CHECK_EQUAL("secure bits", now.securebits, first.securebits);
	CHECK_EQUAL("no_new_privs", now.no_new_privs, first.no_new_privs);
	CHECK_EQUAL("dumpable", now.dumpable, first.dumpable);
	CHECK_EQUAL("keepcaps", now.keepcaps, first.keepcaps);
	for (int i = 0; i < LIMITS; i++) {
		CHECK(now.limits[i].rlim_cur == first.limits[i].rlim_cur && now.limits[i].rlim_max == first.limits[i].rlim_max,
		      "limit %d: expected %#llx %#llx, got %#llx %#llx", i, (unsigned long long)first.limits[i].rlim_cur,
		      (unsigned long long)first.limits[i].rlim_max, (unsigned long long)now.limits[i].rlim_cur,
		      (unsigned long long)now.limits[i].rlim_max);
	}
}

static void limit(int which, rlim_t soft, rlim_t hard)
{
	struct rlimit value = { soft, hard }, old;

	getrlimit(which, &old);
	if (old.rlim_max < hard)
		value.rlim_max = old.rlim_max;
	if (value.rlim_cur > value.rlim_max)
		value.rlim_cur = value.rlim_max;
	CHECK_CALL("setrlimit", setrlimit(which, &value));
}

static void set_capabilities(uint64_t permitted, uint64_t effective, uint64_t inheritable)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	for (int i = 0; i < 2; i++)
		data[i] = (struct __user_cap_data_struct){ effective >> 32 * i, permitted >> 32 * i, inheritable >> 32 * i };
	CHECK_CALL("capset", (int)syscall(SYS_capset, &header, data));
}

static void become(void)
{
	const uint64_t keep = 1ull << CAP_NET_BIND_SERVICE | 1ull << CAP_SYS_NICE | 1ull << CAP_SYS_PTRACE;
	gid_t groups[] = { 4, 24, 1000, 5000, 70000 };

	limit(RLIMIT_NOFILE, 500, 2000);
	limit(RLIMIT_CORE, 4096, 1 << 20);
	limit(RLIMIT_STACK, 4 << 20, 16 << 20);
	limit(RLIMIT_MEMLOCK, 65536, 131072);
	limit(RLIMIT_SIGPENDING, 100, 200);
	limit(RLIMIT_NICE, 10, 30);
	limit(RLIMIT_RTPRIO, 5, 50);
	limit(RLIMIT_FSIZE, 1ull << 30, 1ull << 40);
	limit(RLIMIT_MSGQUEUE, 1000, 2000);
	CHECK_CALL("PR_CAPBSET_DROP", prctl(PR_CAPBSET_DROP, CAP_SYS_MODULE));
	CHECK_CALL("PR_CAPBSET_DROP", prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT));
	if (!check_number("keep_root", 0)) {
		CHECK_CALL("setgroups", setgroups(5, groups));
		CHECK_CALL("PR_SET_KEEPCAPS", prctl(PR_SET_KEEPCAPS, 1));
		CHECK_CALL("setresgid", setresgid(1000, 1001, 1002));
		CHECK_CALL("setresuid", setresuid(1000, 1001, 1002));
	}
	/* Capabilities are gone from the effective set with the effective root; one is needed for the secure bits. */
	set_capabilities(keep | 1ull << CAP_SETPCAP, 1ull << CAP_SETPCAP, keep);
	CHECK_CALL("PR_SET_SECUREBITS", prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_NOROOT | SECBIT_NOROOT_LOCKED));
	set_capabilities(keep, 1ull << CAP_SYS_NICE, keep);
	CHECK_CALL("PR_CAP_AMBIENT", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0));
	if (check_number("nnp", 1))
		CHECK_CALL("PR_SET_NO_NEW_PRIVS", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK_CALL("PR_SET_DUMPABLE", prctl(PR_SET_DUMPABLE, 1));
}

static void *work(void *unused)
{
	(void)unused;
	while (!closing) {
		compare();
		check_sleep(check.pause_ms);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t id[THREADS];
	unsigned long turns = 0;

	check_begin(argc, argv, "t17_credentials");
	CHECK_EQUAL("user at the start", geteuid(), 0);
	become();
	identify(&first);
	check_log("NOTE %s", first.text);
	for (int i = 0; i < THREADS; i++)
		CHECK_EQUAL("pthread_create", pthread_create(&id[i], NULL, work, NULL), 0);
	check_ready();
	do {
		compare();
		turns++;
	} while (!check_turn());
	closing = true;
	for (int i = 0; i < THREADS; i++)
		pthread_join(id[i], NULL);
	if (!check_number("keep_root", 0))
		CHECK(setuid(0) == -1 && errno == EPERM, "setuid(0): expected EPERM, got %s", strerror(errno));
	check_done(turns);
}
