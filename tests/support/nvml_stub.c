/* A libnvidia-ml.so.1 for tests: answers NVML's calls from the text file named by $TUITUNE_NVML_STUB, read anew at every call.
 *
 *   driver 580.95.05            a value of the box
 *   0.util 97                   a value of GPU 0
 *   1.ecc error 3               GPU 1 answers this call with NVML's error 3 (not supported)
 *   0.process 4711 1073741824   one line a process: pid and bytes ("none": the driver hides them)
 *
 * What the file does not have is answered with "not supported"; `init error 9` makes nvmlInit fail. Built by nvml_stub.py.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7 };
typedef unsigned int uint;
typedef unsigned long long ull;
typedef struct { uint version; ull total, reserved, free, used; } memory_v2;
typedef struct { ull total, free, used; } memory_v1;
typedef struct { uint pid; ull bytes; uint instance, compute; } process_v3;

/* The rest of the line of `key` (its `number`-th line); 0, NVML's error of that line, or "not supported". */
static int look(const char *key, int number, char *value, size_t size) {
    const char *path = getenv("TUITUNE_NVML_STUB");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512];
    int result = NOT_SUPPORTED;
    size_t length = strlen(key);
    if (!file) return NOT_SUPPORTED;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, key, length) || line[length] != ' ' || number-- > 0) continue;
        snprintf(value, size, "%s", line + length + 1);
        result = strncmp(value, "error ", 6) ? SUCCESS : atoi(value + 6);
        break;
    }
    fclose(file);
    return result;
}

/* A handle is the GPU's index plus one. */
static int device(void *handle, const char *what, int number, char *value, size_t size) {
    char key[64];
    snprintf(key, sizeof key, "%d.%s", (int)(size_t)handle - 1, what);
    return look(key, number, value, size);
}

static int number_of(void *handle, const char *what, ull *number) {
    char value[256];
    int result = device(handle, what, 0, value, sizeof value);
    if (result == SUCCESS) *number = strtoull(value, NULL, 0);
    return result;
}

static int uint_of(void *handle, const char *what, uint *number) {
    ull wide = 0;
    int result = number_of(handle, what, &wide);
    *number = (uint)wide;
    return result;
}

int nvmlInitWithFlags(uint flags) {
    char value[256];
    int result = look("init", 0, value, sizeof value);
    (void)flags;
    return result == NOT_SUPPORTED ? SUCCESS : result;
}

int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int code) {
    static char text[32];
    snprintf(text, sizeof text, "stub error %d", code);
    return text;
}

int nvmlSystemGetDriverVersion(char *value, uint size) { return look("driver", 0, value, size); }

int nvmlDeviceGetCount_v2(uint *count) {
    char value[256];
    int result = look("count", 0, value, sizeof value);
    *count = result == SUCCESS ? (uint)atoi(value) : 0;
    return result;
}

int nvmlDeviceGetHandleByIndex_v2(uint index, void **handle) {
    char value[256];
    int result = device((void *)(size_t)(index + 1), "handle", 0, value, sizeof value);
    *handle = (void *)(size_t)(index + 1);
    return result == NOT_SUPPORTED ? SUCCESS : result;
}

int nvmlDeviceGetName(void *handle, char *value, uint size) { return device(handle, "name", 0, value, size); }
int nvmlDeviceGetUUID(void *handle, char *value, uint size) { return device(handle, "uuid", 0, value, size); }

int nvmlDeviceGetMemoryInfo_v2(void *handle, memory_v2 *memory) {
    char value[256];
    int refusal = device(handle, "memory_v2", 0, value, sizeof value); /* "0.memory_v2 error 13": a driver that knows only v1 */
    if (refusal != NOT_SUPPORTED) return refusal;
    memory->reserved = memory->free = 0;
    if (number_of(handle, "mem_total", &memory->total)) return NOT_SUPPORTED;
    return number_of(handle, "mem_used", &memory->used);
}

int nvmlDeviceGetMemoryInfo(void *handle, memory_v1 *memory) {
    memory->free = 0;
    if (number_of(handle, "mem_total", &memory->total)) return NOT_SUPPORTED;
    return number_of(handle, "mem_used", &memory->used);
}

int nvmlDeviceGetUtilizationRates(void *handle, uint rates[2]) { return rates[1] = 0, uint_of(handle, "util", rates); }
int nvmlDeviceGetPowerUsage(void *handle, uint *milliwatts) { return uint_of(handle, "power", milliwatts); }
int nvmlDeviceGetEnforcedPowerLimit(void *handle, uint *milliwatts) { return uint_of(handle, "power_limit", milliwatts); }
int nvmlDeviceGetTemperature(void *handle, int sensor, uint *celsius) { return (void)sensor, uint_of(handle, "temp", celsius); }
int nvmlDeviceGetClockInfo(void *handle, int type, uint *mhz) { return uint_of(handle, type == 2 ? "mem_clock" : "sm_clock", mhz); }
int nvmlDeviceGetCurrentClocksEventReasons(void *handle, ull *bits) { return number_of(handle, "reasons", bits); }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, ull *bits) { return number_of(handle, "old_reasons", bits); }

int nvmlDeviceGetTotalEccErrors(void *handle, int type, int counter, ull *errors) {
    return (void)type, (void)counter, number_of(handle, "ecc", errors);
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, uint *count, process_v3 *processes) {
    char value[256], bytes[64];
    uint room = *count;
    int result;
    for (*count = 0; (result = device(handle, "process", (int)*count, value, sizeof value)) == SUCCESS; ++*count) {
        if (*count >= room) continue;
        process_v3 *process = &processes[*count];
        memset(process, 0, sizeof *process);
        if (sscanf(value, "%u %63s", &process->pid, bytes) != 2) return NOT_SUPPORTED;
        process->bytes = strcmp(bytes, "none") ? strtoull(bytes, NULL, 10) : ~0ULL;
    }
    if (result != NOT_SUPPORTED) return result;
    return *count > room ? INSUFFICIENT_SIZE : SUCCESS;
}
