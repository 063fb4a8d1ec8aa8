/** The virtual machine in which IPVS is tested where the running kernel has none. Only the suite `kernel-long` needs it. */
import { fetchDebianKernel, runningKernelHasIpvs } from "./debian-kernel.mjs";
import { installVirtualMachine } from "./system-packages.mjs";

/** What could not be had has been said; the tests that need it count as skips. */
export async function setUpVirtualMachine() {
  if (process.arch !== "x64" || (await runningKernelHasIpvs())) return;
  if (await installVirtualMachine()) await fetchDebianKernel();
}
