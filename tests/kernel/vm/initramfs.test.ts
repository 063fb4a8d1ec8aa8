import { expect, it } from "vitest";
import { withDependencies } from "./initramfs.ts";

const MODULES_DEP = `kernel/net/9p/9pnet.ko:
kernel/net/9p/9pnet_virtio.ko: kernel/net/9p/9pnet.ko kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko
kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko:
`;

it("loads what a module needs before it, once", () => {
  expect(withDependencies(["9pnet_virtio", "9p"], MODULES_DEP)).toEqual([
    "kernel/drivers/virtio/virtio.ko",
    "kernel/drivers/virtio/virtio_ring.ko",
    "kernel/net/9p/9pnet.ko",
    "kernel/net/9p/9pnet_virtio.ko",
    "kernel/fs/9p/9p.ko.xz",
  ]);
});

it("names a module that the kernel lacks", () => {
  expect(() => withDependencies(["overlay"], MODULES_DEP)).toThrow("the kernel has no module overlay");
});
