/**
 * Programs of the operating system: which of them are missing, and their installation from Debian's packages.
 *
 * Nothing is installed without root; what is missing then is named in one sentence with the command that
 * would install it, and everything that does not need it still runs.
 */
import { isRoot, run, say, which } from "./process.mjs";

/** Program → Debian package. Only what a fresh Debian with Node, npm and git may lack. */
const NETWORK_TOOLS = {
  nft: "nftables",
  iptables: "iptables",
  conntrack: "conntrack",
  ip: "iproute2",
  modprobe: "kmod",
  ipset: "ipset",
  ipvsadm: "ipvsadm",
};
const VIRTUAL_MACHINE = { "qemu-system-x86_64": "qemu-system-x86" };
const TEST_TOOLS = { openssl: "openssl", curl: "curl" };
const GATEWAY_TOOLS = { haproxy: "haproxy" };
const RUST_TOOLS = { cargo: "cargo-web", rustc: "rustc-web", cc: "gcc" };
const RUST_CHECKS = ["rustfmt-web", "rust-web-clippy"];

/** What the tests of the edge half call. */
export async function installTestTools() {
  return install(packagesFor(TEST_TOOLS), "tests make certificates and run the examples' lines with them");
}

/** What the node half is tested with. */
export async function installNetworkTools() {
  return install(packagesFor(NETWORK_TOOLS), "the node agent's tests need them");
}

/** What the tests of IPVS need where the running kernel has none. */
export async function installVirtualMachine() {
  return install(packagesFor(VIRTUAL_MACHINE), "IPVS is tested in a virtual machine");
}

/** The gateway of clusters. */
export async function installGateway() {
  return install(packagesFor(GATEWAY_TOOLS), "the gateway's contract is tested against it");
}

/** A host compiler for the tests of the Rust crate. */
export async function installRust() {
  const packages = packagesFor(RUST_TOOLS);
  // Format and lint fit the Rust that they came with, so they are no matter of a Rust that is there already.
  const checks = packages.includes(RUST_TOOLS.cargo) ? RUST_CHECKS : [];
  return install([...packages, ...checks], "the NAT compiler is written in Rust");
}

/** Debian's Rust with the sources of its standard library, from which the WASM target is built. */
export async function installWasmToolchain(missing) {
  return install(missing, "the NAT compiler is built to WASM with them");
}

function packagesFor(tools) {
  return Object.entries(tools)
    .filter(([program]) => which(program) === undefined)
    .map(([, name]) => name);
}

/** True when all `packages` are there at the end. */
async function install(packages, reason) {
  if (packages.length === 0) return true;
  const command = `apt-get install --no-install-recommends ${packages.join(" ")}`;
  if (which("apt-get") === undefined) {
    say(
      `missing: ${packages.join(", ")} (Debian's names; ${reason}); there is no apt-get here to install them.`,
    );
    return false;
  }
  if (!isRoot()) {
    say(`missing: ${packages.join(", ")} (${reason}); as root: ${command}`);
    return false;
  }
  say(`installing ${packages.join(", ")} (${reason})`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  // The lock may be held by another program's installation: wait for it.
  const aptGet = (...args) =>
    run("apt-get", ["-o", "DPkg::Lock::Timeout=300", "-qq", "-y", ...args], { env });
  let result = await aptGet("install", "--no-install-recommends", ...packages);
  if (result.code !== 0) {
    // A machine that never listed its packages, or whose list is old.
    await aptGet("update");
    result = await aptGet("install", "--no-install-recommends", ...packages);
  }
  if (result.code === 0) return true;
  say(
    `could not install ${packages.join(", ")}; \`${command}\` said: ${result.output.trim().split("\n").at(-1)}`,
  );
  return false;
}
