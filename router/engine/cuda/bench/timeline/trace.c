// Writes every kernel and copy of a program on the GPU, as CSV: name, stream, start and end in nanoseconds. Loaded by the driver:
//
//   cc -shared -fPIC -O2 trace.c -o libtrace.so -I CUPTI/include -L CUPTI/lib -l:libcupti.so.13 -Wl,-rpath,CUPTI/lib
//   CUDA_INJECTION64_PATH=$PWD/libtrace.so TRACE_OUT=trace.csv reprise ...
//
// CUPTI is in CUDA's toolkit, and on PyPI as nvidia-cuda-cupti.
#include <cupti.h>
#include <stdio.h>
#include <stdlib.h>

static FILE *out;

static void requested(uint8_t **buffer, size_t *size, size_t *records) {
    *size = 8 << 20;
    *records = 0;
    *buffer = aligned_alloc(8, *size);
    if (!*buffer) *size = 0;
}

static void completed(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size, size_t valid) {
    CUpti_Activity *record = NULL;
    (void)context, (void)stream, (void)size;
    while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) {
        if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
            const CUpti_ActivityKernel9 *kernel = (const CUpti_ActivityKernel9 *)record;
            fprintf(out, "%s,%u,%llu,%llu\n", kernel->name, kernel->streamId, (unsigned long long)kernel->start, (unsigned long long)kernel->end);
        } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
            const CUpti_ActivityMemcpy6 *copy = (const CUpti_ActivityMemcpy6 *)record;
            const char *name = copy->copyKind == CUPTI_ACTIVITY_MEMCPY_KIND_HTOD ? "copy to device" : "copy from device";
            fprintf(out, "%s,%u,%llu,%llu\n", name, copy->streamId, (unsigned long long)copy->start, (unsigned long long)copy->end);
        }
    }
    free(buffer);
}

static void end(void) {
    cuptiActivityFlushAll(1);
    fclose(out);
}

int InitializeInjection(void) {
    const char *path = getenv("TRACE_OUT");
    out = fopen(path ? path : "trace.csv", "w");
    if (!out) return 0;
    fprintf(out, "name,stream,start,end\n");
    cuptiActivityRegisterCallbacks(requested, completed);
    cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
    cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY);
    atexit(end);
    return 1;
}
