/* A camera that is not there. Loaded with LD_PRELOAD, this answers what OpenCV's V4L2 backend asks of one device, with
 * buffers that are filled at the camera's ticks as a driver fills them: the oldest that is queued, or none.
 *
 *   FAKE_V4L2_DEVICE  the path it stands at, e.g. /dev/video63
 *   FAKE_V4L2_SIZE    its images, e.g. 320x180
 *   FAKE_V4L2_RATE    images a second
 *   FAKE_V4L2_DIR     holds the images 0.jpg to 63.jpg, shown in turn; and what is wrong with the camera, while a file of
 *                     that name lies there: "unplugged", "stuck" (no images), "frozen" (the same image again and again)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { BUFFERS = 8, LENGTH = 1 << 20, IMAGES = 64 };

static int device = -1; /* a timer, so that it can be read, and waited for, at every tick */
static unsigned width, height, number, shown;
static double rate, next_s;
static char *memory; /* of all buffers */
static struct v4l2_buffer buffers[BUFFERS];
static int queued[BUFFERS], filled[BUFFERS], queued_count, filled_count, streaming;

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

static int fail(int number_of_error)
{
    errno = number_of_error;
    return -1;
}

static void path_of(char *path, const char *name)
{
    snprintf(path, 512, "%s/%s", getenv("FAKE_V4L2_DIR"), name);
}

static int is(const char *trouble)
{
    char path[512];
    path_of(path, trouble);
    return syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
}

static int take(int *list, int *count)
{
    int first = list[0];
    memmove(list, list + 1, sizeof(int) * --*count);
    return first;
}

static void set_timer(int on)
{
    struct itimerspec timer = {{0, 0}, {0, 0}};
    if (on) {
        timer.it_interval.tv_sec = (time_t)(1 / rate);
        timer.it_interval.tv_nsec = (long)(1e9 * (1 / rate - timer.it_interval.tv_sec));
        timer.it_value = timer.it_interval;
        next_s = now_s() + 1 / rate;
    }
    timerfd_settime(device, 0, &timer, NULL);
}

/* What the driver did since it was last looked at: ticks that found a buffer filled it. */
static void catch_up(void)
{
    for (; streaming && next_s <= now_s(); next_s += 1 / rate, number++) {
        if (!queued_count)
            continue;
        if (!is("frozen"))
            shown = number % IMAGES;
        char name[32], path[512];
        snprintf(name, sizeof name, "%u.jpg", shown);
        path_of(path, name);
        FILE *file = fopen(path, "rb");
        if (!file)
            abort();
        int index = take(queued, &queued_count);
        buffers[index].bytesused = fread(memory + index * LENGTH, 1, LENGTH, file);
        fclose(file);
        buffers[index].sequence = number;
        buffers[index].timestamp.tv_sec = (time_t)next_s;
        buffers[index].timestamp.tv_usec = (long)(1e6 * (next_s - (time_t)next_s));
        buffers[index].flags = V4L2_BUF_FLAG_MAPPED | V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
        filled[filled_count++] = index;
    }
}

static void describe(struct v4l2_buffer *buffer, int index)
{
    memset(&buffers[index], 0, sizeof buffers[index]);
    buffers[index].index = index;
    buffers[index].type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    buffers[index].memory = V4L2_MEMORY_MMAP;
    buffers[index].length = LENGTH;
    buffers[index].m.offset = index * LENGTH;
    buffers[index].flags = V4L2_BUF_FLAG_MAPPED | V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    *buffer = buffers[index];
}

static int queue(unsigned index)
{
    for (int i = 0; i < queued_count; i++)
        if (queued[i] == (int)index)
            return fail(EINVAL);
    catch_up();
    queued[queued_count++] = index;
    return 0;
}

static int dequeue(struct v4l2_buffer *buffer)
{
    uint64_t ticks;
    if (is("stuck"))
        set_timer(0);
    else if (read(device, &ticks, sizeof ticks) > 0 || filled_count)
        catch_up();
    if (!filled_count)
        return fail(EAGAIN);
    *buffer = buffers[take(filled, &filled_count)];
    return 0;
}

static int answer(unsigned request, void *argument)
{
    if (is("unplugged"))
        return fail(ENODEV);
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *about = argument;
        memset(about, 0, sizeof *about);
        strcpy((char *)about->card, "A camera that is not there");
        about->capabilities = about->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    }
    case VIDIOC_G_FMT:
    case VIDIOC_S_FMT: { /* as a driver with one format: it says what it gives instead */
        struct v4l2_pix_format *format = &((struct v4l2_format *)argument)->fmt.pix;
        memset(format, 0, sizeof *format);
        format->width = width;
        format->height = height;
        format->pixelformat = V4L2_PIX_FMT_MJPEG;
        format->field = V4L2_FIELD_NONE;
        format->sizeimage = LENGTH;
        return 0;
    }
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM: {
        struct v4l2_captureparm *setting = &((struct v4l2_streamparm *)argument)->parm.capture;
        setting->timeperframe.numerator = 1;
        setting->timeperframe.denominator = (unsigned)rate;
        return 0;
    }
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *wanted = argument;
        wanted->count = wanted->count < BUFFERS ? wanted->count : BUFFERS;
        streaming = queued_count = filled_count = 0;
        return 0;
    }
    case VIDIOC_QUERYBUF:
        describe(argument, ((struct v4l2_buffer *)argument)->index);
        return 0;
    case VIDIOC_QBUF:
        return queue(((struct v4l2_buffer *)argument)->index);
    case VIDIOC_DQBUF:
        return dequeue(argument);
    case VIDIOC_STREAMON:
        set_timer(streaming = 1);
        return 0;
    case VIDIOC_STREAMOFF:
        set_timer(streaming = 0);
        queued_count = filled_count = 0;
        return 0;
    default:
        return fail(EINVAL);
    }
}

static int open_file(const char *path, int flags, int mode)
{
    const char *mine = getenv("FAKE_V4L2_DEVICE");
    if (!mine || strcmp(path, mine))
        return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (is("unplugged"))
        return fail(ENOENT);
    if (device >= 0)
        return fail(EBUSY);
    if (!memory)
        memory = malloc(BUFFERS * LENGTH);
    sscanf(getenv("FAKE_V4L2_SIZE"), "%ux%u", &width, &height);
    rate = atof(getenv("FAKE_V4L2_RATE"));
    streaming = queued_count = filled_count = 0;
    device = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    return device;
}

int open(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    int mode = va_arg(rest, int);
    va_end(rest);
    return open_file(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    int mode = va_arg(rest, int);
    va_end(rest);
    return open_file(path, flags, mode);
}

int ioctl(int file, unsigned long request, ...)
{
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return file == device && file >= 0 ? answer((unsigned)request, argument) : syscall(SYS_ioctl, file, request, argument);
}

int close(int file)
{
    if (file >= 0 && file == device)
        device = -1;
    return syscall(SYS_close, file);
}

void *mmap(void *where, size_t length, int protection, int flags, int file, off_t offset)
{
    if (file >= 0 && file == device)
        return memory + offset;
    return (void *)syscall(SYS_mmap, where, length, protection, flags, file, offset);
}

void *mmap64(void *where, size_t length, int protection, int flags, int file, off_t offset)
{
    return mmap(where, length, protection, flags, file, offset);
}

int munmap(void *where, size_t length)
{
    if (memory && (char *)where >= memory && (char *)where < memory + BUFFERS * LENGTH)
        return 0;
    return syscall(SYS_munmap, where, length);
}
