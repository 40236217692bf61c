// Tells the thread sanitizer when a `Mutex` that two threads want goes from one to the other. On Linux that is done by
// the system's futex within libswiftSynchronization, where the sanitizer does not see it, and it would call everything
// that a Mutex guards a race. A lock that nobody waits for is taken in code that it does see.
//
// Loaded before the library (LD_PRELOAD), whose functions are called from here. Also into what the sanitizer starts to
// name the places in its reports, which has neither of them.
//
// One more thing it is not told, which cannot be mended so: of a continuation that is resumed before its task waits for it,
// a few instructions after it was made. A report whose reader came straight from such a place is none.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>

__attribute__((weak)) void __tsan_acquire(void *);
__attribute__((weak)) void __tsan_release(void *);

#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context))
#define LOCK "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define UNLOCK "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

typedef SWIFT void (*Lock)(uint32_t, SELF void *);
typedef SWIFT void (*Unlock)(SELF void *);

static Lock library_lock;
static Unlock library_unlock;

__attribute__((constructor)) static void find(void) {
    library_lock = (Lock)dlsym(RTLD_NEXT, LOCK);
    library_unlock = (Unlock)dlsym(RTLD_NEXT, UNLOCK);
}

SWIFT void lock(uint32_t thread, SELF void *mutex) __asm__(LOCK);
SWIFT void lock(uint32_t thread, SELF void *mutex) {
    library_lock(thread, mutex);
    __tsan_acquire(mutex);
}

SWIFT void unlock(SELF void *mutex) __asm__(UNLOCK);
SWIFT void unlock(SELF void *mutex) {
    __tsan_release(mutex);
    library_unlock(mutex);
}
