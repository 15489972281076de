// SPDX-License-Identifier: GPL-2.0-only
/*
 * attest NONCE: asks the firmware for an attestation report with that data, 64 bytes in
 * hexadecimal, by the driver sev-guest. Prints it, 32 bytes in a line. Then asks for a derived
 * key twice, for the certificates of the extended report, and for what must be refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/sev-guest.h>

#define REPORT_AT	0x20
#define REPORT_SIZE	0x4a0
#define KEY_AT		0x20
#define KEY_SIZE	32
/* Measurement and policy */
#define KEY_FIELDS	0x9
#define CERTS_SIZE	0x4000

static int fd;

static uint32_t status_of(const void *response)
{
	uint32_t status;

	memcpy(&status, response, sizeof(status));
	return status;
}

static int call(unsigned long command, void *request, void *response, const char *what)
{
	struct snp_guest_request_ioctl io = {
		.msg_version = 1,
		.req_data = (uintptr_t)request,
		.resp_data = (uintptr_t)response,
	};

	if (!ioctl(fd, command, &io))
		return 0;
	printf("attest: %s: %s, firmware %x, hypervisor %x\n", what, strerror(errno), io.fw_error, io.vmm_error);
	return -1;
}

static int get_report(struct snp_report_req *request)
{
	struct snp_report_resp response = {};
	int i;

	if (call(SNP_GET_REPORT, request, &response, "report"))
		return 1;
	printf("attest: report status %x", status_of(response.data));
	for (i = 0; i < REPORT_SIZE; i++)
		printf(i % 32 ? "%02x" : "\nattest: data %02x", response.data[REPORT_AT + i]);
	printf("\n");
	return 0;
}

static int get_key(struct snp_derived_key_resp *response)
{
	struct snp_derived_key_req request = { .guest_field_select = KEY_FIELDS };

	return call(SNP_GET_DERIVED_KEY, &request, response, "key");
}

static int keys(void)
{
	struct snp_derived_key_resp first = {}, second = {};

	if (get_key(&first) || get_key(&second))
		return 1;
	printf("attest: key status %x, %s\n", status_of(first.data),
	       memcmp(first.data + KEY_AT, second.data + KEY_AT, KEY_SIZE) ? "changes" : "stays");
	return 0;
}

/* The table begins with a GUID, which is zero if it is empty. */
static int certificates(const struct snp_report_req *data)
{
	static unsigned char certs[CERTS_SIZE], none[16];
	struct snp_ext_report_req request = {
		.data = *data, .certs_address = (uintptr_t)certs, .certs_len = CERTS_SIZE,
	};
	struct snp_report_resp response = {};

	if (call(SNP_GET_EXT_REPORT, &request, &response, "extended report"))
		return 1;
	printf("attest: extended report status %x, %s\n", status_of(response.data),
	       memcmp(certs, none, sizeof(none)) ? "certificates" : "no certificates");
	return 0;
}

static int wrong_vmpl(struct snp_report_req request)
{
	struct snp_report_resp response = {};

	request.vmpl = 4;
	if (call(SNP_GET_REPORT, &request, &response, "report of VMPL 4"))
		return 1;
	printf("attest: report of VMPL 4 status %x\n", status_of(response.data));
	return 0;
}

int main(int argc, char **argv)
{
	struct snp_report_req request = {};
	int i, ret;

	if (argc != 2 || strlen(argv[1]) != 2 * sizeof(request.user_data)) {
		fprintf(stderr, "usage: attest NONCE\n");
		return 1;
	}
	for (i = 0; i < (int)sizeof(request.user_data); i++)
		if (sscanf(argv[1] + 2 * i, "%2hhx", &request.user_data[i]) != 1)
			return 1;
	fd = open("/dev/sev-guest", O_RDWR);
	if (fd < 0) {
		printf("attest: /dev/sev-guest: %s\n", strerror(errno));
		return 1;
	}
	ret = get_report(&request) || keys() || certificates(&request) || wrong_vmpl(request);
	printf("attest: end, status %d\n", ret);
	return ret;
}
