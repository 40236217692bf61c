// Tells the thread sanitizer of three orders that the Swift runtime keeps where it does not see them. It would call races
// what a contended `Mutex` guards, what a continuation hands over, and a change of an array that another thread has read.
//
// - A Mutex that two threads want goes from one to the other by the system's futex, within libswiftSynchronization. (One
//   that nobody waits for is taken in code that the sanitizer sees.)
// - A continuation that is resumed before its task waits for it, a few instructions after it was made, is not waited for:
//   the task goes on at once, within libswift_Concurrency. What a task does next after any await is to give back the
//   memory of what it called, unless that was taken into its own code.
// - An array that is taken out of a lock shares its storage. It is changed in place only after the runtime has found that
//   nobody else refers to the storage any more: after the reader's release, whose order libswiftCore keeps.
//
// Loaded before the libraries (LD_PRELOAD), whose functions are called from here. Also into what the sanitizer starts to
// name the places in its reports, which has none of them.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>

__attribute__((weak)) void __tsan_acquire(void *);
__attribute__((weak)) void __tsan_release(void *);

#define SWIFT __attribute__((swiftcall))
#define ASYNC __attribute__((swiftasynccall))
#define SELF __attribute__((swift_context))
#define LOCK "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define UNLOCK "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

static SWIFT void (*library_lock)(uint32_t, SELF void *);
static SWIFT void (*library_unlock)(SELF void *);
static SWIFT void (*library_resume)(void *);
static SWIFT void (*library_throwing_resume)(void *);
static SWIFT void (*library_throwing_resume_with_error)(void *, void *);
static SWIFT void (*library_dealloc)(void *);
static ASYNC void (*library_await)(void *);
static SWIFT void *(*library_current)(void);
static void (*library_release)(void *);
static _Bool (*library_is_unique)(const void *);

__attribute__((constructor)) static void find(void) {
    library_lock = dlsym(RTLD_NEXT, LOCK);
    library_unlock = dlsym(RTLD_NEXT, UNLOCK);
    library_resume = dlsym(RTLD_NEXT, "swift_continuation_resume");
    library_throwing_resume = dlsym(RTLD_NEXT, "swift_continuation_throwingResume");
    library_throwing_resume_with_error = dlsym(RTLD_NEXT, "swift_continuation_throwingResumeWithError");
    library_dealloc = dlsym(RTLD_NEXT, "swift_task_dealloc");
    library_await = dlsym(RTLD_NEXT, "swift_continuation_await");
    library_current = dlsym(RTLD_NEXT, "swift_task_getCurrent");
    library_release = dlsym(RTLD_NEXT, "swift_release");
    library_is_unique = dlsym(RTLD_NEXT, "swift_isUniquelyReferenced_nonNull_native");
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

SWIFT void swift_continuation_resume(void *task) {
    __tsan_release(task);
    library_resume(task);
}

SWIFT void swift_continuation_throwingResume(void *task) {
    __tsan_release(task);
    library_throwing_resume(task);
}

SWIFT void swift_continuation_throwingResumeWithError(void *task, void *error) {
    __tsan_release(task);
    library_throwing_resume_with_error(task, error);
}

SWIFT void swift_task_dealloc(void *memory) {
    library_dealloc(memory);
    void *task = library_current();
    if (task) __tsan_acquire(task);
}

ASYNC void swift_continuation_await(void *context) {
    void *task = library_current();
    if (task) __tsan_acquire(task);
    __attribute__((musttail)) return library_await(context);
}

void swift_release(void *object) {
    // Small and immortal objects are no addresses of the heap.
    if ((intptr_t)object > 0) __tsan_release(object);
    if (!library_release) find();  // A library that is loaded earlier may already need it.
    library_release(object);
}

_Bool swift_isUniquelyReferenced_nonNull_native(const void *object) {
    if (!library_is_unique) find();
    _Bool is_unique = library_is_unique(object);
    if (is_unique) __tsan_acquire((void *)object);
    return is_unique;
}
