/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM rmpopt

#if !defined(_TRACE_RMPOPT_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_RMPOPT_H

#include <linux/bitmap.h>
#include <linux/irqflags.h>
#include <linux/tracepoint.h>

/* RMPOPT_REASON_* and struct rmpopt_pass: arch/x86/virt/svm/rmpopt_regions.h */
#define show_rmpopt_reason(reason)				\
	__print_flags(reason, "|",				\
		      { RMPOPT_REASON_SETUP,	"setup" },	\
		      { RMPOPT_REASON_REQUEST,	"request" },	\
		      { RMPOPT_REASON_RETURN,	"return" },	\
		      { RMPOPT_REASON_MISSED,	"missed" })

TRACE_EVENT(rmpopt_pass_begin,
	TP_PROTO(const struct rmpopt_pass *pass, unsigned int cores),

	TP_ARGS(pass, cores),

	TP_STRUCT__entry(
		__field(unsigned int,	reason)
		__field(unsigned int,	cores)
	),

	TP_fast_assign(
		__entry->reason = pass->reason;
		__entry->cores = cores;
	),

	TP_printk("reason=%s cores=%u", show_rmpopt_reason(__entry->reason), __entry->cores)
);

TRACE_EVENT(rmpopt_pass_end,
	TP_PROTO(const struct rmpopt_pass *pass, unsigned int cores, u64 ns),

	TP_ARGS(pass, cores, ns),

	TP_STRUCT__entry(
		__field(unsigned int,	reason)
		__field(unsigned int,	cores)
		__field(unsigned int,	queried)
		__field(unsigned int,	regions)
		__field(unsigned int,	optimized)
		__field(unsigned int,	behind)
		__field(unsigned int,	windows)
		__field(u64,		ns)
	),

	TP_fast_assign(
		__entry->reason = pass->reason;
		__entry->cores = cores;
		__entry->queried = pass->queried;
		__entry->regions = pass->regions;
		__entry->optimized = pass->optimized;
		__entry->behind = pass->behind;
		__entry->windows = pass->windows;
		__entry->ns = ns;
	),

	TP_printk("reason=%s cores=%u queried=%u regions=%u optimized=%u behind=%u ns=%llu windows=%u",
		  show_rmpopt_reason(__entry->reason), __entry->cores, __entry->queried,
		  __entry->regions, __entry->optimized, __entry->behind, __entry->ns,
		  __entry->windows)
);

TRACE_EVENT(rmpopt_verdict,
	TP_PROTO(u64 pa, bool optimized, u64 window),

	TP_ARGS(pa, optimized, window),

	TP_STRUCT__entry(
		__field(u64,	pa)
		__field(u64,	window)
		__field(bool,	optimized)
	),

	TP_fast_assign(
		__entry->pa = pa;
		__entry->window = window;
		__entry->optimized = optimized;
	),

	TP_printk("pa=0x%llx optimized=%d window=0x%llx", __entry->pa, __entry->optimized,
		  __entry->window)
);

TRACE_EVENT(rmpopt_catch_up,
	TP_PROTO(unsigned int regions, const unsigned long *todo, unsigned int nr),

	TP_ARGS(regions, todo, nr),

	TP_STRUCT__entry(
		__field(unsigned int,	regions)
		__field(unsigned int,	left)
		__field(bool,		ipi)
	),

	TP_fast_assign(
		__entry->regions = regions;
		/* Others may add to it. */
		__entry->left = data_race(bitmap_weight(todo, nr));
		/* Timers run with interrupts enabled. */
		__entry->ipi = irqs_disabled();
	),

	TP_printk("regions=%u left=%u ipi=%d", __entry->regions, __entry->left, __entry->ipi)
);

TRACE_EVENT(rmpopt_stale,
	TP_PROTO(u64 pa, unsigned int reason),

	TP_ARGS(pa, reason),

	TP_STRUCT__entry(
		__field(u64,		pa)
		__field(unsigned int,	reason)
	),

	TP_fast_assign(
		__entry->pa = pa;
		__entry->reason = reason;
	),

	TP_printk("pa=0x%llx reason=%s", __entry->pa, show_rmpopt_reason(__entry->reason))
);

#endif /* _TRACE_RMPOPT_H */

#include <trace/define_trace.h>
