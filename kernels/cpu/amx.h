// Leave to use AMX.
#ifndef PREGATE_KERNELS_CPU_AMX_H_
#define PREGATE_KERNELS_CPU_AMX_H_

namespace pregate {

// Whether this processor has tile registers and multiplies bytes and bfloat16 in them, and this
// process may use them: Linux grants that to a process that asks, for all of its threads; the first
// call asks. False where the kernel, or what it runs under, refuses.
bool UsableAmx();

}  // namespace pregate

#endif  // PREGATE_KERNELS_CPU_AMX_H_
