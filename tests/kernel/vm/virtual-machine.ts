/**
 * A virtual machine with Debian's kernel for what the running kernel lacks: one command, run in it over the host's own
 * files.
 *
 * In: a command line and its environment. Out: its exit code and output, and whatever it wrote into the exchange folder,
 * the one place that both sides can write to. Not here: which tests run in it.
 *
 * It is QEMU's plain emulation, which needs nothing of the machine below and is some ten times slower than that.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { debianKernelPath } from "../../../setup/debian-kernel.mjs";
import { initramfs } from "./initramfs.ts";

const QEMU = "/usr/bin/qemu-system-x86_64";
const MEMORY_MIB = 3072;

export interface MachineRun {
  /** Of the command; undefined if the machine ended before it did. */
  readonly code: number | undefined;
  readonly output: string;
  /** What the kernel and `init.sh` said. */
  readonly console: string;
}

/** One sentence, or undefined if a machine can be started. */
export function whatTheMachineLacks(): string | undefined {
  if (!existsSync(QEMU)) return `needs ${QEMU}, which \`npm run test:kernel-long\` installs as root`;
  return debianKernelPath() === undefined
    ? "needs a kernel with IPVS, which `npm run test:kernel-long` fetches"
    : undefined;
}

/** A folder that the host and a machine share, to read and write. */
export class Exchange {
  readonly folder = mkdtempSync(join(tmpdir(), "fairlead-vm-"));

  file(name: string): string {
    return join(this.folder, name);
  }

  /** The content of a file, if there is one. */
  read(name: string): string | undefined {
    return existsSync(this.file(name)) ? readFileSync(this.file(name), "utf8") : undefined;
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/**
 * Boots, runs one shell command in `folder`, and ends. `modules` are loaded before, and the files `inMemory` copied from
 * the host's disk to where they need not be asked for again.
 */
export async function runInVirtualMachine(
  exchange: Exchange,
  command: {
    readonly line: string;
    readonly folder: string;
    readonly environment: Readonly<Record<string, string>>;
    readonly modules: readonly string[];
    readonly inMemory: readonly string[];
    readonly seconds: number;
  },
): Promise<MachineRun> {
  const kernel = debianKernelPath();
  if (kernel === undefined) throw new Error("there is no kernel to boot");
  const modules = join(kernel, "modules");
  writeFileSync(exchange.file("initramfs"), initramfs(modules, join(kernel, "busybox")));
  writeFileSync(exchange.file("run"), runScript(exchange, command));
  const words = [
    "console=ttyS0 quiet panic=-1 mitigations=off",
    `fairlead.exchange=${exchange.folder}`,
    `fairlead.modules=${modules}`,
  ];
  // The machine ends with us, however we end.
  const child = spawn(
    "setpriv",
    [
      ...["--pdeathsig", "KILL", QEMU],
      ...["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"],
      // Hardware virtualisation inside a virtual machine is often promised and not kept.
      ...["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"],
      ...["-smp", "2", "-m", `${MEMORY_MIB}M`],
      ...[
        "-kernel",
        join(kernel, "vmlinuz"),
        "-initrd",
        exchange.file("initramfs"),
        "-append",
        words.join(" "),
      ],
      ...["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"],
      ...["-virtfs", `local,path=${exchange.folder},mount_tag=exchange,security_model=none`],
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let console = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      console += text;
    });
  }
  const timer = setTimeout(() => child.kill("SIGKILL"), command.seconds * 1000);
  try {
    await once(child, "close");
  } finally {
    clearTimeout(timer);
  }
  const code = exchange.read("exit-code")?.trim();
  return {
    code: code === undefined || code === "" ? undefined : Number(code),
    output: exchange.read("output") ?? "",
    console,
  };
}

function runScript(
  exchange: Exchange,
  { line, folder, environment, modules, inMemory }: Parameters<typeof runInVirtualMachine>[1],
): string {
  const exports = Object.entries(environment).map(([name, value]) => `export ${name}=${quoted(value)}`);
  return `export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
${exports.join("\n")}
{
  # A file that is written to, if only its time, is copied to the layer in memory.
  touch -c -h -m ${inMemory.map(quoted).join(" ")}
  # No data base of them first, which is not there and would be looked for each time.
  sed -i -E 's/^(protocols|services):.*/\\1: files/' /etc/nsswitch.conf
  ip link set lo up
  for module in ${modules.join(" ")}; do modprobe "$module"; done
  cd ${quoted(folder)} && sh -c ${quoted(line)}
  echo $? >${quoted(exchange.file("exit-code"))}
} >${quoted(exchange.file("output"))} 2>&1 </dev/null
# With -no-reboot this ends the machine, at once.
echo b >/proc/sysrq-trigger
`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
