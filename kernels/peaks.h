// The roof of this machine, measured: what a benchmark's figures are shares of.
#ifndef PREGATE_KERNELS_PEAKS_H_
#define PREGATE_KERNELS_PEAKS_H_

#include "kernels/device.h"

namespace pregate {

// Bytes a second that all threads of the device read from memory beyond the caches; the best of
// several passes over 256 MiB. About half a second.
double MeasureReadBandwidth(Device& device);

// fp32 operations a second (two in each fused multiply-add) of all threads on values in registers,
// with the widest vectors that this machine has. About 0.2 s.
double MeasureFmaRate(Device& device);

// int8 operations a second (two in each multiply-accumulate), as MeasureFmaRate, with the widest
// integer dot product that this machine has (AMX, else VNNI, else maddubs).
double MeasureInt8Rate(Device& device);

}  // namespace pregate

#endif  // PREGATE_KERNELS_PEAKS_H_
