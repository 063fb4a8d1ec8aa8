/**
 * What node-a holds for the IPVS backend: virtual servers, sets, the dummy link and rules of iptables, as text that can be
 * compared, and real servers as values.
 */
import { FAMILIES } from "./addresses.ts";
import type { Lab } from "./lab.ts";
import { rulesOfSave } from "./rules.ts";

export interface RealServer {
  /** `TCP 172.30.0.10:80`, `FWM 1174405120`. */
  readonly server: string;
  readonly target: string;
  readonly weight: number;
  readonly active: number;
  readonly inactive: number;
}

export async function realServers(lab: Lab): Promise<readonly RealServer[]> {
  const listed = await lab.namespaces.must("node-a", "ipvsadm", ["-L", "-n"]);
  const found: RealServer[] = [];
  let server = "";
  for (const line of listed.split("\n")) {
    const words = line.trim().split(/\s+/);
    if (/^(TCP|UDP|SCTP|FWM)$/.test(words[0] ?? "")) server = `${words[0]} ${words[1]}`;
    const [arrow, target = "", , weight, active, inactive] = words;
    if (arrow !== "->" || target.startsWith("RemoteAddress")) continue;
    found.push({
      server,
      target,
      weight: Number(weight),
      active: Number(active),
      inactive: Number(inactive),
    });
  }
  return found;
}

/** Everything, of all owners, sorted and without what packets change. */
export async function ipvsSnapshot(lab: Lab): Promise<readonly string[]> {
  const ask = (program: string, ...args: readonly string[]) => lab.namespaces.run("node-a", program, args);
  const must = (program: string, ...args: readonly string[]) => lab.namespaces.must("node-a", program, args);
  const [servers, sets, links, ...addresses] = await Promise.all([
    must("ipvsadm", "-S", "-n"),
    must("ipset", "save"),
    must("ip", "-o", "link", "show", "type", "dummy"),
    ...["-4", "-6"].map((family) => ask("ip", "-o", family, "address", "show", "dev", "kube-ipvs0")),
  ]);
  const saves = await Promise.all(
    FAMILIES.flatMap((family) =>
      (["nft", "legacy"] as const).map(async (variant) => {
        const program = `${family === "ipv4" ? "iptables" : "ip6tables"}-${variant}-save`;
        return rulesOfSave(await must(program)).map((rule) => `${family} ${variant} ${rule}`);
      }),
    ),
  );
  return [
    ...lines(servers).map((line) => `server ${line}`),
    // The kernel lets a set's table of hashes grow, and gives each its own seed.
    ...lines(sets).map(
      (line) => `set ${line.replace(/ hashsize \d+/, "").replace(/ bucketsize \d+ initval \S+/, "")}`,
    ),
    ...lines(links).map((line) => `link ${line.split(":")[1]?.trim()}`),
    ...addresses.flatMap(({ code, stdout }) =>
      code === 0
        ? lines(stdout)
            .map((line) => `address ${line.trim().split(/\s+/)[3]}`)
            // The kernel gives one to each link that is brought up by somebody who does not mind.
            .filter((line) => !line.startsWith("address fe80:"))
        : [],
    ),
    ...saves.flat(),
  ].sort();
}

function lines(text: string): readonly string[] {
  return text.split("\n").filter((line) => line.trim() !== "");
}

/** A virtual server, a set and a link of somebody else, who must find them as they were. */
export async function addForeignIpvs(lab: Lab): Promise<void> {
  const must = (line: string) => lab.namespaces.must("node-a", "sh", ["-c", line]);
  await must("ipvsadm -A -t 192.168.0.2:9999 -s wlc");
  await must("ipvsadm -a -t 192.168.0.2:9999 -r 10.180.0.13:9999 -m -w 3");
  await must("ipvsadm -A -f 77 -s rr");
  await must("ipset create FOREIGN hash:ip && ipset add FOREIGN 192.0.2.1");
  await must("ip link add foreign0 type dummy && ip link set foreign0 up");
}
