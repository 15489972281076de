// SPDX-License-Identifier: GPL-2.0
/*
 * Creates SEV-SNP VMs that do not run, and does with them what it is told on
 * stdin:
 *
 *	punch VM OFFSET LENGTH	gives back this part of the memory
 *	close VM		destroys the VM
 *	close-vm VM		closes VM and vCPUs, but not the memory
 *	close-memory VM		closes the memory only
 *	quit
 *
 * Each but the last is answered by "ok" or "error: ...". VMs count from 0.
 */
#include <errno.h>
#include <getopt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kselftest.h"
#include "snp_vm.h"

#define MAX_VMS		4096
#define MAX_NODES	64

static struct snp_vm *vms;
static unsigned int nr_vms = 1;

static const char usage[] =
	"usage: snp_vm [--vms N] [--memory SIZE[K|M|G]] [--node N[,N...]]\n"
	"              [--vcpus N] [--no-launch|--no-finish] [--prefault-none]\n";

static bool parse_number(const char *text, unsigned int min, unsigned int max,
			 unsigned int *number)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 0);
	*number = value;
	return !errno && end != text && !*end && value >= min && value <= max;
}

static bool parse_nodes(char *text, unsigned int *nodes, unsigned int *nr)
{
	char *node;

	for (*nr = 0; (node = strsep(&text, ",")); (*nr)++) {
		if (*nr == MAX_NODES || !parse_number(node, 0, INT32_MAX, &nodes[*nr]))
			return false;
	}
	return true;
}

static void print_vm(unsigned int index, const struct snp_vm_config *config)
{
	static const char units[] = "KMG";
	__u64 size = config->memory >> 10;
	const char *unit = units;

	while (unit[1] && !(size & 1023)) {
		size >>= 10;
		unit++;
	}
	printf("vm %u: memory %llu%c", index, size, *unit);
	if (config->node >= 0)
		printf(" node %d", config->node);
	printf("\n");
}

/* Returns what is wrong, or NULL. */
static const char *obey(const char *line)
{
	char command[16] = "", number[16] = "", offset[24] = "", length[24] = "";
	bool closed = false;
	struct snp_vm *vm;
	unsigned int index;
	__u64 start, size;

	if (sscanf(line, "%15s %15s %23s %23s", command, number, offset, length) < 2)
		return "no such command";

	if (!parse_number(number, 0, nr_vms - 1, &index))
		return "no such VM";
	vm = &vms[index];

	if (!strcmp(command, "punch")) {
		if (!snp_parse_size(offset, &start) || !snp_parse_size(length, &size))
			return "bad range";
		return snp_vm_punch(vm, start, size) ? snp_strerror() : NULL;
	}

	if (!strcmp(command, "close")) {
		closed = snp_vm_close(vm);
	} else if (!strcmp(command, "close-vm")) {
		closed = snp_vm_close_vm(vm);
		closed |= snp_vm_close_vcpus(vm);
	} else if (!strcmp(command, "close-memory")) {
		closed = snp_vm_close_memory(vm);
	} else {
		return "no such command";
	}
	return closed ? NULL : "closed already";
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "vms", required_argument, NULL, 'n' },
		{ "memory", required_argument, NULL, 'm' },
		{ "node", required_argument, NULL, 'N' },
		{ "vcpus", required_argument, NULL, 'c' },
		{ "no-launch", no_argument, NULL, 'l' },
		{ "no-finish", no_argument, NULL, 'f' },
		{ "prefault-none", no_argument, NULL, 'p' },
		{}
	};
	struct snp_vm_config config = {
		.memory = 64 << 20,
		.vcpus = 1,
		.node = -1,
		.stage = SNP_FINISHED,
		.prefault = true,
	};
	unsigned int nodes[MAX_NODES], nr_nodes = 0, i;
	const char *problem;
	struct snp_host host;
	char line[128];
	bool ok = true;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'n':
			ok &= parse_number(optarg, 1, MAX_VMS, &nr_vms);
			break;
		case 'm':
			ok &= snp_parse_size(optarg, &config.memory) &&
			      config.memory >= SNP_MIN_MEMORY;
			break;
		case 'N':
			ok &= parse_nodes(optarg, nodes, &nr_nodes);
			break;
		case 'c':
			ok &= parse_number(optarg, 1, SNP_MAX_VCPUS, &config.vcpus);
			break;
		case 'l':
			config.stage = SNP_CREATED;
			break;
		case 'f':
			config.stage = SNP_STARTED;
			break;
		case 'p':
			config.prefault = false;
			break;
		default:
			ok = false;
		}
	}
	if (!ok || optind != argc) {
		fputs(usage, stderr);
		return KSFT_FAIL;
	}

	problem = snp_host_open(&host);
	if (problem) {
		fprintf(stderr, "skip: %s\n", problem);
		return KSFT_SKIP;
	}

	vms = calloc(nr_vms, sizeof(*vms));
	if (!vms) {
		fprintf(stderr, "calloc: out of memory\n");
		return KSFT_FAIL;
	}

	/* The answers are read by a script, one by one. */
	setvbuf(stdout, NULL, _IOLBF, 0);

	for (i = 0; i < nr_vms; i++) {
		if (nr_nodes)
			config.node = nodes[i % nr_nodes];
		if (snp_vm_create(&host, &vms[i], &config)) {
			fprintf(stderr, "vm %u: %s\n", i, snp_strerror());
			return KSFT_FAIL;
		}
		print_vm(i, &config);
	}
	printf("ready\n");

	while (fgets(line, sizeof(line), stdin)) {
		if (!strcmp(line, "quit\n"))
			break;
		problem = obey(line);
		if (problem)
			printf("error: %s\n", problem);
		else
			printf("ok\n");
	}

	for (i = 0; i < nr_vms; i++)
		snp_vm_close(&vms[i]);
	return KSFT_PASS;
}
