#!/bin/busybox sh
# Process 1 of the virtual machine, until it has the host's file system: read-only below, and a layer in memory above,
# so that programs may write where they like and the host keeps what it has. Then EXCHANGE/run takes over.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
while read -r module; do /bin/busybox insmod "$module" || echo "init: $module did not load"; done </modules/order

die() { echo "init: $1"; echo b >/proc/sysrq-trigger; }
for word in $(/bin/busybox cat /proc/cmdline); do
  case $word in
    fairlead.exchange=*) exchange=${word#*=} ;;
    fairlead.modules=*) modules=${word#*=} ;;
  esac
done

nine_p=trans=virtio,version=9p2000.L,msize=524288
# cache=loose: nobody changes these files meanwhile, as far as the tests are concerned.
/bin/busybox mount -t 9p -o ro,cache=loose,$nine_p host /host || die "no host file system"
/bin/busybox mount -t tmpfs writes /writes
/bin/busybox mkdir /writes/upper /writes/work
/bin/busybox mount -t overlay -o lowerdir=/host,upperdir=/writes/upper,workdir=/writes/work merged /merged || die "no overlay"
for name in proc sys dev; do /bin/busybox mount --move /$name /merged/$name; done
/bin/busybox mount -t tmpfs run /merged/run
/bin/busybox mkdir -p /merged/dev/shm /merged/dev/pts /merged/lib/modules
/bin/busybox mount -t tmpfs shm /merged/dev/shm
/bin/busybox mount -t devpts pts /merged/dev/pts
/bin/busybox mount -t 9p -o $nine_p exchange "/merged$exchange" || echo "init: no folder for the results"
/bin/busybox ln -s "$modules" "/merged/lib/modules/$(/bin/busybox uname -r)"
exec /bin/busybox switch_root /merged /bin/sh "$exchange/run"
