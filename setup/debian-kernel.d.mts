/** The newest unpacked kernel, as a folder with `vmlinuz`, `modules` and `busybox`; undefined if there is none. */
export function debianKernelPath(): string | undefined;

/** Whether the kernel that runs here has IPVS itself. */
export function runningKernelHasIpvs(): Promise<boolean>;
