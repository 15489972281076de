// SPDX-License-Identifier: GPL-2.0
/*
 * Issues a command of /dev/sev, with buffers that the firmware writes to or reads.
 * Some of these buffers become pages of the firmware meanwhile, of a NUMA node that
 * can be chosen.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/mempolicy.h>
#include <linux/psp-sev.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

/* Size of a certificate, "SEV certificate format" */
#define SEV_CERT_SIZE		0x824

/* What is in a buffer before the command, and behind its end */
#define UNTOUCHED		0xa5
#define GUARD			64
#define MAX_LENGTH		0x1000000

#define MAX_NODES		64

static int sev;
/* Of the last command */
static unsigned int firmware_error;

static int issue(unsigned int command, void *data)
{
	struct sev_issue_cmd arg = { .cmd = command, .data = (uintptr_t)data };
	int ret = ioctl(sev, SEV_ISSUE_CMD, &arg);

	firmware_error = arg.error;
	return ret;
}

/* Memory that a command has written to. Of its length the firmware tells what it needs. */
struct output {
	unsigned int length;
	void *data;
};

#define MAX_OUTPUTS	2

static unsigned int number_of_outputs(unsigned int command)
{
	return command == SEV_PDH_CERT_EXPORT ? 2 : 1;
}

/* PEK_CSR, PDH_CERT_EXPORT or GET_ID2 */
static int issue_outputs(unsigned int command, struct output *outputs)
{
	struct sev_user_data_pdh_cert_export export;
	struct sev_user_data_pek_csr csr;
	struct sev_user_data_get_id2 id;
	int ret;

	switch (command) {
	case SEV_PEK_CSR:
		csr.address = (uintptr_t)outputs[0].data;
		csr.length = outputs[0].length;
		ret = issue(command, &csr);
		outputs[0].length = csr.length;
		return ret;
	case SEV_PDH_CERT_EXPORT:
		export.pdh_cert_address = (uintptr_t)outputs[0].data;
		export.pdh_cert_len = outputs[0].length;
		export.cert_chain_address = (uintptr_t)outputs[1].data;
		export.cert_chain_len = outputs[1].length;
		ret = issue(command, &export);
		outputs[0].length = export.pdh_cert_len;
		outputs[1].length = export.cert_chain_len;
		return ret;
	default:
		id.address = (uintptr_t)outputs[0].data;
		id.length = outputs[0].length;
		ret = issue(command, &id);
		outputs[0].length = id.length;
		return ret;
	}
}

/* The firmware refuses a buffer that is too short, and tells the length. */
static bool tells_length(unsigned int command, struct output *outputs)
{
	return issue_outputs(command, outputs) < 0 && errno == EIO &&
	       firmware_error == SEV_RET_INVALID_LEN;
}

/* With buffers as long as the firmware wants them */
static int output(unsigned int command)
{
	struct output outputs[MAX_OUTPUTS] = {};
	unsigned int i;
	int ret = -1;

	if (!tells_length(command, outputs))
		return -1;
	for (i = 0; i < number_of_outputs(command); i++) {
		outputs[i].data = calloc(1, outputs[i].length);
		if (!outputs[i].data)
			goto out;
	}
	ret = issue_outputs(command, outputs);
out:
	for (i = 0; i < MAX_OUTPUTS; i++)
		free(outputs[i].data);
	return ret;
}

static int no_data(unsigned int command)
{
	return issue(command, NULL);
}

static int platform_status(unsigned int command)
{
	struct sev_user_data_status status;

	return issue(command, &status);
}

static int pek_cert_import(unsigned int command)
{
	static char certificate[SEV_CERT_SIZE];
	struct sev_user_data_pek_cert_import import = {
		.pek_cert_address = (uintptr_t)certificate,
		.pek_cert_len = sizeof(certificate),
		.oca_cert_address = (uintptr_t)certificate,
		.oca_cert_len = sizeof(certificate),
	};

	return issue(command, &import);
}

static int snp_platform_status(unsigned int command)
{
	struct sev_user_data_snp_status status;

	return issue(command, &status);
}

/* The configuration that there is, so that nothing changes. */
static int snp_set_config(unsigned int command)
{
	struct sev_user_data_snp_status status;
	struct sev_user_data_snp_config config = {};

	if (issue(SNP_PLATFORM_STATUS, &status))
		return -1;
	config.reported_tcb = status.reported_tcb_version;
	config.mask_chip_id = status.mask_chip_id;
	config.mask_chip_key = status.mask_chip_key;
	return issue(command, &config);
}

/* A firmware that looks at it refuses it. */
static int snp_vlek_load(unsigned int command)
{
	static struct sev_user_data_snp_wrapped_vlek_hashstick hashstick;
	struct sev_user_data_snp_vlek_load load = {
		.len = sizeof(load),
		.vlek_wrapped_address = (uintptr_t)&hashstick,
	};

	return issue(command, &load);
}

static const struct {
	const char *name;
	unsigned int command;
	int (*run)(unsigned int command);
} commands[] = {
	{ "factory_reset",	 SEV_FACTORY_RESET,	no_data },
	{ "platform_status",	 SEV_PLATFORM_STATUS,	platform_status },
	{ "pek_gen",		 SEV_PEK_GEN,		no_data },
	{ "pek_csr",		 SEV_PEK_CSR,		output },
	{ "pdh_gen",		 SEV_PDH_GEN,		no_data },
	{ "pdh_cert_export",	 SEV_PDH_CERT_EXPORT,	output },
	{ "pek_cert_import",	 SEV_PEK_CERT_IMPORT,	pek_cert_import },
	{ "get_id2",		 SEV_GET_ID2,		output },
	{ "snp_platform_status", SNP_PLATFORM_STATUS,	snp_platform_status },
	{ "snp_commit",		 SNP_COMMIT,		no_data },
	{ "snp_set_config",	 SNP_SET_CONFIG,	snp_set_config },
	{ "snp_vlek_load",	 SNP_VLEK_LOAD,		snp_vlek_load },
};

/* What each output is expected to be, since the first time */
static struct output expected[MAX_OUTPUTS];

static bool is_untouched(const unsigned char *data, size_t length)
{
	while (length && *data == UNTOUCHED) {
		data++;
		length--;
	}
	return !length;
}

/* Whether that output is as it should be after a command that has succeeded, or not */
static bool check_output(unsigned int i, const struct output *given,
			 const struct output *returned, bool success)
{
	const unsigned char *data = given->data;
	unsigned int length = success ? expected[i].length : 0;

	if (returned->length != expected[i].length) {
		printf("output %u, length %u: %u are needed, not %u\n", i, given->length,
		       returned->length, expected[i].length);
		return false;
	}
	if (success && !expected[i].data) {
		expected[i].data = malloc(length);
		if (!expected[i].data)
			return false;
		memcpy(expected[i].data, data, length);
	}
	if (success && memcmp(data, expected[i].data, length)) {
		printf("output %u, length %u: not the data of the first time\n", i,
		       given->length);
		return false;
	}
	if (!is_untouched(data + length, given->length + GUARD - length)) {
		printf("output %u, length %u: more than %u bytes are written\n", i,
		       given->length, length);
		return false;
	}
	return true;
}

/* The command with buffers of these lengths, which may be too short */
static bool check_lengths(unsigned int command, const unsigned int *lengths)
{
	unsigned int number = number_of_outputs(command), i;
	struct output given[MAX_OUTPUTS] = {}, returned[MAX_OUTPUTS];
	bool enough = true, query = false, good = false;
	int ret;

	for (i = 0; i < number; i++) {
		given[i].length = lengths[i];
		given[i].data = malloc(lengths[i] + GUARD);
		if (!given[i].data)
			goto out;
		memset(given[i].data, UNTOUCHED, lengths[i] + GUARD);
		enough &= lengths[i] >= expected[i].length;
		query |= !lengths[i];
	}
	memcpy(returned, given, sizeof(given));
	ret = issue_outputs(command, returned);
	if (enough && !query ? ret :
	    ret >= 0 || errno != EIO || firmware_error != SEV_RET_INVALID_LEN) {
		printf("length %u: %s (errno %d), firmware error %#x\n", lengths[0],
		       ret < 0 ? strerror(errno) : "no error", ret < 0 ? errno : 0,
		       firmware_error);
		goto out;
	}
	good = true;
	for (i = 0; i < number; i++)
		good &= check_output(i, &given[i], &returned[i], !ret);
out:
	for (i = 0; i < MAX_OUTPUTS; i++)
		free(given[i].data);
	return good;
}

/* FNV-1a */
static uint64_t hash(const unsigned char *data, size_t length)
{
	uint64_t value = 0xcbf29ce484222325;

	while (length--)
		value = (value ^ *data++) * 0x100000001b3;
	return value;
}

static const char help[] =
	"usage: sev_ioctl COMMAND [REPEAT [NODE]]\n"
	"       sev_ioctl lengths COMMAND REPEAT LENGTH...\n"
	"commands:";

static int usage(void)
{
	unsigned int i;

	fprintf(stderr, "%s", help);
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(stderr, " %s", commands[i].name);
	fprintf(stderr, "\n");
	return 2;
}

static bool parse_number(const char *text, unsigned long min, unsigned long max,
			 unsigned long *number)
{
	char *end;

	errno = 0;
	*number = strtoul(text, &end, 0);
	return !errno && *text != '-' && end != text && !*end && *number >= min &&
	       *number <= max;
}

/*
 * Each of these lengths, for two outputs each pair of them. What arrives has to be the
 * same each time, and nothing else may be written. Prints length and hash.
 */
static int try_lengths(unsigned int command, unsigned long repeat, char **texts, int number)
{
	unsigned int lengths[MAX_OUTPUTS], i;
	unsigned long length, second, n;
	int first, j;

	if (!tells_length(command, expected)) {
		printf("tells no length: %s (errno %d), firmware error %#x\n",
		       strerror(errno), errno, firmware_error);
		return 1;
	}
	for (n = 0; n < repeat; n++) {
		for (first = 0; first < number; first++) {
			for (j = 0; j < (number_of_outputs(command) > 1 ? number : 1); j++) {
				if (!parse_number(texts[first], 0, MAX_LENGTH, &length) ||
				    !parse_number(texts[j], 0, MAX_LENGTH, &second))
					return usage();
				lengths[0] = length;
				lengths[1] = second;
				if (!check_lengths(command, lengths))
					return 1;
			}
		}
	}
	for (i = 0; i < number_of_outputs(command); i++) {
		if (!expected[i].data) {
			printf("no length is enough\n");
			return 1;
		}
		printf("%u %016llx\n", expected[i].length,
		       (unsigned long long)hash(expected[i].data, expected[i].length));
	}
	return 0;
}

/* What the kernel allocates on behalf of this process comes from there. */
static int allocate_from(unsigned long node)
{
	unsigned long mask = 1UL << node;

	return syscall(SYS_set_mempolicy, MPOL_BIND, &mask, MAX_NODES + 1);
}

static int find_command(const char *name)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!strcmp(name, commands[i].name))
			return i;
	}
	return -1;
}

int main(int argc, char **argv)
{
	bool lengths = argc > 4 && !strcmp(argv[1], "lengths");
	unsigned long repeat = 1, node, n;
	int i;

	if (argc < 2 || (argc > 4 && !lengths))
		return usage();
	i = find_command(argv[lengths ? 2 : 1]);
	if (i < 0 || (lengths && commands[i].run != output))
		return usage();
	if (argc > 2 && !parse_number(argv[lengths ? 3 : 2], 1, ~0UL, &repeat))
		return usage();
	if (argc > 3 && !lengths && !parse_number(argv[3], 0, MAX_NODES - 1, &node))
		return usage();

	sev = open("/dev/sev", O_RDWR | O_CLOEXEC);
	if (sev < 0) {
		printf("/dev/sev: %s (errno %d)\n", strerror(errno), errno);
		return 1;
	}
	if (lengths)
		return try_lengths(commands[i].command, repeat, argv + 4, argc - 4);
	if (argc > 3 && allocate_from(node)) {
		printf("node %lu: %s (errno %d)\n", node, strerror(errno), errno);
		return 1;
	}

	for (n = 1; n <= repeat; n++) {
		if (commands[i].run(commands[i].command)) {
			printf("%s, %lu of %lu: %s (errno %d), firmware error %#x\n",
			       argv[1], n, repeat, strerror(errno), errno, firmware_error);
			return 1;
		}
	}
	printf("ok\n");
	return 0;
}
