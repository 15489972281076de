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

/* The kernel takes no longer ones. */
#define MAX_LENGTH		0x4000

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

/* The firmware refuses a buffer that is too short, and tells the length. */
static bool tells_length(unsigned int command, void *data)
{
	return issue(command, data) < 0 && errno == EIO &&
	       firmware_error == SEV_RET_INVALID_LEN;
}

static void *buffer(size_t length)
{
	void *data;

	if (!length || length > MAX_LENGTH) {
		fprintf(stderr, "length %zu\n", length);
		errno = EPROTO;
		return NULL;
	}
	data = calloc(1, length);
	if (!data)
		errno = ENOMEM;
	return data;
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

static int pek_csr(unsigned int command)
{
	struct sev_user_data_pek_csr csr = {};
	void *data;
	int ret;

	if (!tells_length(command, &csr))
		return -1;
	data = buffer(csr.length);
	if (!data)
		return -1;
	csr.address = (uintptr_t)data;
	ret = issue(command, &csr);
	free(data);
	return ret;
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

static int pdh_cert_export(unsigned int command)
{
	struct sev_user_data_pdh_cert_export export = {};
	void *certificate, *chain;
	int ret = -1;

	if (!tells_length(command, &export))
		return -1;
	certificate = buffer(export.pdh_cert_len);
	chain = buffer(export.cert_chain_len);
	if (certificate && chain) {
		export.pdh_cert_address = (uintptr_t)certificate;
		export.cert_chain_address = (uintptr_t)chain;
		ret = issue(command, &export);
	}
	free(chain);
	free(certificate);
	return ret;
}

static int get_id2(unsigned int command)
{
	struct sev_user_data_get_id2 id = {};
	void *data;
	int ret;

	if (!tells_length(command, &id))
		return -1;
	data = buffer(id.length);
	if (!data)
		return -1;
	id.address = (uintptr_t)data;
	ret = issue(command, &id);
	free(data);
	return ret;
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
	{ "pek_csr",		 SEV_PEK_CSR,		pek_csr },
	{ "pdh_gen",		 SEV_PDH_GEN,		no_data },
	{ "pdh_cert_export",	 SEV_PDH_CERT_EXPORT,	pdh_cert_export },
	{ "pek_cert_import",	 SEV_PEK_CERT_IMPORT,	pek_cert_import },
	{ "get_id2",		 SEV_GET_ID2,		get_id2 },
	{ "snp_platform_status", SNP_PLATFORM_STATUS,	snp_platform_status },
	{ "snp_commit",		 SNP_COMMIT,		no_data },
	{ "snp_set_config",	 SNP_SET_CONFIG,	snp_set_config },
	{ "snp_vlek_load",	 SNP_VLEK_LOAD,		snp_vlek_load },
};

static const char help[] =
	"usage: sev_ioctl COMMAND [REPEAT [NODE]]\n"
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

/* What the kernel allocates on behalf of this process comes from there. */
static int allocate_from(unsigned long node)
{
	unsigned long mask = 1UL << node;

	return syscall(SYS_set_mempolicy, MPOL_BIND, &mask, MAX_NODES + 1);
}

int main(int argc, char **argv)
{
	unsigned long repeat = 1, node, n;
	unsigned int i;

	if (argc < 2 || argc > 4)
		return usage();
	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!strcmp(argv[1], commands[i].name))
			break;
	}
	if (i == ARRAY_SIZE(commands))
		return usage();
	if (argc > 2 && !parse_number(argv[2], 1, ~0UL, &repeat))
		return usage();
	if (argc > 3 && !parse_number(argv[3], 0, MAX_NODES - 1, &node))
		return usage();

	sev = open("/dev/sev", O_RDWR | O_CLOEXEC);
	if (sev < 0) {
		printf("/dev/sev: %s (errno %d)\n", strerror(errno), errno);
		return 1;
	}
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
