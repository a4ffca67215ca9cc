// Leave to use AMX.
#ifndef PREGATE_KERNELS_CPU_AMX_H_
#define PREGATE_KERNELS_CPU_AMX_H_

namespace pregate {

// Whether this process may use tile registers, which Linux grants to a process that asks; the first
// call asks. Threads that are there and those to come may use them then. False where the kernel, or
// what it runs under, refuses.
bool AmxPermitted();

}  // namespace pregate

#endif  // PREGATE_KERNELS_CPU_AMX_H_
