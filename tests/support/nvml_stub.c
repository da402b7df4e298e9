/* A stand-in for libnvidia-ml.so.1, for boxes without GPU: the calls tuitune makes, answered from a text file.
 *
 * $NVML_STUB names the file, read anew at every call. Its lines are "KEY VALUE"; a device's keys start with its number: "0.power 215500".
 * A value "!3" makes the call fail with NVML's error 3, and so does a key that is not there (3: not supported).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, UNKNOWN = 999 };

typedef unsigned long long u64;
typedef struct { unsigned pid; u64 used; unsigned gpu_instance, compute_instance; } Process;
typedef struct { u64 total, free, used; } Memory;
typedef struct { unsigned version; u64 total, reserved, free, used; } MemoryV2;
typedef struct { unsigned gpu, memory; } Utilization;

/* The value of the `skip`-th line with this key into `out`; NVML's code. `device` is a handle (number + 1), NULL for the box. */
static int line(void *device, const char *name, int skip, char *out, unsigned size) {
    const char *path = getenv("NVML_STUB");
    FILE *file = path ? fopen(path, "r") : NULL;
    char key[64], text[512];
    int code = NOT_SUPPORTED;
    if (!file) return UNKNOWN;
    if (device) snprintf(key, sizeof key, "%d.%s ", (int)(size_t)device - 1, name);
    else snprintf(key, sizeof key, "%s ", name);
    while (code == NOT_SUPPORTED && fgets(text, sizeof text, file)) {
        text[strcspn(text, "\n")] = 0;
        if (strncmp(text, key, strlen(key)) || skip-- > 0) continue;
        const char *value = text + strlen(key);
        code = *value == '!' ? atoi(value + 1) : SUCCESS;
        snprintf(out, size, "%s", value);
        if (code) break;
    }
    fclose(file);
    return code;
}

static int number(void *device, const char *name, u64 *out) {
    char text[512];
    int code = line(device, name, 0, text, sizeof text);
    if (!code) *out = strtoull(text, NULL, 10);
    return code;
}

static int small(void *device, const char *name, unsigned *out) {
    u64 value;
    int code = number(device, name, &value);
    if (!code) *out = (unsigned)value;
    return code;
}

int nvmlInitWithFlags(unsigned flags) { u64 ignored; (void)flags; return number(NULL, "init", &ignored); }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { (void)code; return "the stand-in's error"; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) { return line(NULL, "driver", 0, out, size); }
int nvmlDeviceGetCount_v2(unsigned *out) { return small(NULL, "count", out); }
int nvmlDeviceGetName(void *device, char *out, unsigned size) { return line(device, "name", 0, out, size); }
int nvmlDeviceGetUUID(void *device, char *out, unsigned size) { return line(device, "uuid", 0, out, size); }
int nvmlDeviceGetPowerUsage(void *device, unsigned *out) { return small(device, "power", out); }
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *out) { return small(device, "power_limit", out); }
int nvmlDeviceGetCurrentClocksEventReasons(void *device, u64 *out) { return number(device, "reasons", out); }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, u64 *out) { return number(device, "old_reasons", out); }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
    u64 ignored;
    int code = number((void *)(size_t)(index + 1), "handle", &ignored);
    *out = (void *)(size_t)(index + 1);
    return code == NOT_SUPPORTED ? SUCCESS : code;
}

int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *out) {
    return sensor ? NOT_SUPPORTED : small(device, "temp", out);
}

int nvmlDeviceGetClockInfo(void *device, unsigned clock, unsigned *out) {
    return clock == 1 ? small(device, "sm_clock", out) : clock == 2 ? small(device, "mem_clock", out) : NOT_SUPPORTED;
}

int nvmlDeviceGetTotalEccErrors(void *device, unsigned type, unsigned counter, u64 *out) {
    return type == 1 && counter == 0 ? number(device, "ecc", out) : NOT_SUPPORTED; /* uncorrected, since the driver was loaded */
}

int nvmlDeviceGetUtilizationRates(void *device, Utilization *out) {
    out->memory = 0;
    return small(device, "util", &out->gpu);
}

int nvmlDeviceGetMemoryInfo(void *device, Memory *out) {
    int code = number(device, "old_used", &out->used);
    return code ? code : number(device, "total", &out->total);
}

int nvmlDeviceGetMemoryInfo_v2(void *device, MemoryV2 *out) {
    if (out->version != 0x02000028) return 25; /* argument version mismatch */
    int code = number(device, "used", &out->used);
    return code ? code : number(device, "total", &out->total);
}

/* "0.process PID BYTES" a line; BYTES -1: not available. "0.processes 0" where a card without any shall say so. */
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, Process *out) {
    char text[512];
    unsigned found = 0;
    u64 ignored;
    int code = number(device, "processes", &ignored);
    if (code) return code;
    while (!line(device, "process", (int)found, text, sizeof text)) {
        if (out && found < *count) {
            char *rest;
            out[found].pid = (unsigned)strtoul(text, &rest, 10);
            out[found].used = (u64)strtoll(rest, NULL, 10);
        }
        found++;
    }
    code = found > (out ? *count : 0) ? INSUFFICIENT_SIZE : SUCCESS;
    *count = found;
    return code;
}
