/* SPDX-License-Identifier: GPL-2.0 */
/* What the workloads share that speak with the module themselves, as kmod/pmig.yaml describes it. */
#ifndef NETLINK_H
#define NETLINK_H

#include "check.h"
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>

enum { SESSION = 1, MIGRATION, ROLE, PID, TID, DEADLINE, THREADS, STATE, RECORDS, SOCKET, RANGES, PAGES, ZERO_PAGES, BYTES,
       LAST, STUB_START, STUB_END, KIND, RELEASE, MODULE_VERSION, ABI, HARVESTED, OWNED, ATTRIBUTES = OWNED };
enum { HELLO = 1, SURVEY, SESSION_NEW, SESSION_END, FREEZE, THAW, CAPTURE, SEND, RECEIVE, RESTORE, COMMIT, KILL, STATUS,
       HARVEST, EVENT, VESSEL, ADOPT, COMMANDS = ADOPT };

static int netlink = -1, family;
static uint32_t sequence;
static uint64_t state;

/* A number below sides, from state. */
static uint64_t dice(uint64_t sides)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state * 0x2545f4914f6cdd1du >> 11) % sides;
}

/* The request that is being made. */
static struct {
	struct nlmsghdr header;
	struct genlmsghdr generic;
	uint8_t space[60000];
} message;

static void begin(uint16_t type, uint8_t command, uint16_t flags)
{
	memset(&message, 0, NLMSG_HDRLEN + GENL_HDRLEN);
	message.header.nlmsg_len = NLMSG_HDRLEN + GENL_HDRLEN;
	message.header.nlmsg_type = type;
	message.header.nlmsg_flags = NLM_F_REQUEST | flags;
	message.header.nlmsg_seq = ++sequence;
	message.generic.cmd = command;
	message.generic.version = 1;
}

static void put(uint16_t type, const void *bytes, size_t length)
{
	uint8_t *end = (uint8_t *)&message + message.header.nlmsg_len;
	struct nlattr attribute = { .nla_len = NLA_HDRLEN + length, .nla_type = type };

	if (message.header.nlmsg_len + NLA_HDRLEN + NLA_ALIGN(length) > sizeof(message))
		return;
	memcpy(end, &attribute, sizeof(attribute));
	memset(end + NLA_HDRLEN, 0, NLA_ALIGN(length));
	memcpy(end + NLA_HDRLEN, bytes, length);
	message.header.nlmsg_len += NLA_HDRLEN + NLA_ALIGN(length);
}

static void open_netlink(void)
{
	netlink = CHECK_CALL("socket", socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC));
}

/* The content of the first attribute of that type in an answer, or null; its length in *length. */
static const void *attribute(const struct nlmsghdr *answer, uint16_t type, size_t *length)
{
	const uint8_t *at = (const uint8_t *)answer + NLMSG_HDRLEN + GENL_HDRLEN;
	const uint8_t *end = (const uint8_t *)answer + answer->nlmsg_len;

	while (at + NLA_HDRLEN <= end) {
		const struct nlattr *found = (const void *)at;

		if (found->nla_len < NLA_HDRLEN || at + found->nla_len > end)
			break;
		if (found->nla_type == type) {
			*length = found->nla_len - NLA_HDRLEN;
			return at + NLA_HDRLEN;
		}
		at += NLA_ALIGN(found->nla_len);
	}
	return NULL;
}

/* Asks the kernel for the number of the module's family, with a socket of its own. */
static void find_family(void)
{
	uint8_t bytes[8192];
	const void *id;
	size_t length;

	open_netlink();
	begin(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 0);
	put(CTRL_ATTR_FAMILY_NAME, "pmig", 5);
	CHECK_CALL("send", send(netlink, &message, message.header.nlmsg_len, 0));
	CHECK_CALL("recv", recv(netlink, bytes, sizeof(bytes), 0));
	id = attribute((void *)bytes, CTRL_ATTR_FAMILY_ID, &length);
	CHECK(((struct nlmsghdr *)bytes)->nlmsg_type == GENL_ID_CTRL && id,
	      "there is no family pmig: the module is not loaded");
	memcpy(&family, id, 2);
	close(netlink);
	netlink = -1;
}

#endif
