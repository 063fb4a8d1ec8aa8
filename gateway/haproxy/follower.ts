/**
 * Keeps a running HAProxy at the newest settings: write beside, check, switch, then change servers in place or reload.
 *
 * In: settings, again after every change. Out: files of which the installed ones were always accepted, and a HAProxy that
 * has them. What HAProxy refuses costs nothing: the last good configuration stays, on disk and in memory. Not here: where
 * settings come from (`cli/commands/gateway-follow.ts`).
 */

import { createServer } from "node:net";
import { join } from "node:path";
import { createHaproxyMaster, type HaproxyMaster } from "./master.ts";
import { renderHaproxy, renderWithoutServers, tcpBackendsOf } from "./render.ts";
import { setServers } from "./servers.ts";
import type { HaproxySettings, TcpServiceSettings } from "./settings.ts";
import { objectionOf, type Version, Versions } from "./versions.ts";

/** The folder is the follower's business. */
export type FollowedSettings = Omit<HaproxySettings, "folder">;

export interface FollowerOptions {
  /** Holds the configurations; HAProxy is started with `current/haproxy.cfg` in it. */
  readonly folder: string;
  /** Of `haproxy -W -S`. */
  readonly masterSocket: string;
  /** The program that checks: of the same version as the one that runs. */
  readonly program: string;
  /** Shortest time between two reloads: each one may leave a process with old connections. */
  readonly reloadDistanceMs: number;
}

export type FollowOutcome =
  /** HAProxy has these settings already. */
  | { readonly kind: "unchanged" }
  /** Servers came or went, without a reload. */
  | { readonly kind: "servers" }
  | { readonly kind: "reload" }
  /** Installed, and no HAProxy answers: it finds them at its start. Try again, in case that it is starting right now. */
  | { readonly kind: "installed"; readonly reason: string }
  /** The last reload is too fresh. Try again after so many milliseconds. */
  | { readonly kind: "early"; readonly waitMs: number }
  /** One clause; the last good configuration stays. The same settings are tried again after half a minute. */
  | { readonly kind: "refused"; readonly reason: string };

export interface FollowReport {
  readonly outcome: FollowOutcome;
  /** TCP services that are left out because their port cannot be had, and the system's word for why. */
  readonly portsWithout: ReadonlyMap<number, string>;
}

/** What was refused may be taken later: somebody else's port is free, a file is there. */
const REFUSED_FOR_MS = 30_000;

interface Installed {
  readonly version: Version;
  readonly settings: FollowedSettings;
  /** The files, as if they lay in `/`: what two renderings are compared by. */
  readonly text: string;
}

export class HaproxyFollower {
  readonly #options: FollowerOptions;
  readonly #versions: Versions;
  readonly #master: HaproxyMaster;
  /** What `current` holds, as far as this process installed it. */
  #installed: Installed | undefined;
  /** What the worker with this process id has read or was given. */
  #running: { readonly worker: number; readonly text: string; readonly withoutServers: string } | undefined;
  #refused: { readonly text: string; readonly reason: string; readonly untilMs: number } | undefined;
  #reloadedAtMs = Number.NEGATIVE_INFINITY;
  #portsWithout: ReadonlyMap<number, string> = new Map();

  constructor(options: FollowerOptions) {
    this.#options = options;
    this.#versions = new Versions(options.folder);
    this.#master = createHaproxyMaster(options.masterSocket);
  }

  /** Whether a configuration is there that HAProxy can start with. */
  async isInstalled(): Promise<boolean> {
    return (await this.#versions.current()) !== undefined;
  }

  /** Calls must not overlap. Rejects where the file system or the checking program fails, and for a CIDR that is none. */
  async bring(wanted: FollowedSettings): Promise<FollowReport> {
    this.#portsWithout = await stillWithout(this.#portsWithout, wanted);
    let outcome = await this.#bring(without(wanted, this.#portsWithout));
    if (outcome.kind === "refused") {
      const before = this.#portsWithout.size;
      await this.#findPortsWithout(wanted);
      // The others need not wait for a port that somebody else has.
      if (this.#portsWithout.size > before) outcome = await this.#bring(without(wanted, this.#portsWithout));
    }
    return { outcome, portsWithout: this.#portsWithout };
  }

  async #bring(settings: FollowedSettings): Promise<FollowOutcome> {
    const placed = { ...settings, folder: "/" };
    const text = JSON.stringify(renderHaproxy(placed));
    const withoutServers = renderWithoutServers(placed);
    if (text === this.#refused?.text && performance.now() < this.#refused.untilMs)
      return { kind: "refused", reason: this.#refused.reason };
    const before = this.#installed;
    if (text === before?.text && text === this.#running?.text) return { kind: "unchanged" };

    const worker = await this.#worker();
    const serversOnly = worker === this.#running?.worker && withoutServers === this.#running?.withoutServers;
    const waitMs = this.#reloadedAtMs + this.#options.reloadDistanceMs - performance.now();
    if (typeof worker === "number" && !serversOnly && waitMs > 0) return { kind: "early", waitMs };

    if (text !== before?.text) {
      const version = await this.#versions.stage((folder) => renderHaproxy({ ...settings, folder }));
      const file = join(this.#versions.folderOf(version), "haproxy.cfg");
      const objection = await objectionOf(this.#options.program, file);
      if (objection !== undefined) return this.#refuse(text, objection);
      await this.#versions.install(version);
      this.#installed = { version, settings, text };
    }
    if (typeof worker === "string") {
      this.#running = undefined;
      return { kind: "installed", reason: worker };
    }
    this.#refused = undefined;
    this.#running = undefined;
    if (serversOnly && (await setServers(this.#master, tcpBackendsOf(placed)))) {
      this.#running = { worker, text, withoutServers };
      return { kind: "servers" };
    }
    const isLoaded = await this.#master.reload();
    this.#reloadedAtMs = performance.now();
    if (isLoaded) {
      const { worker: newWorker } = await this.#master.processes();
      this.#running = { worker: newWorker, text, withoutServers };
      return { kind: "reload" };
    }
    if (before !== undefined) await this.#versions.install(before.version);
    this.#installed = before;
    return this.#refuse(
      text,
      "nothing was wrong with it, but it could not be loaded; HAProxy's own log says why",
    );
  }

  /** The process id of the worker, or why nobody tells it. */
  async #worker(): Promise<number | string> {
    try {
      return (await this.#master.processes()).worker;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  #refuse(text: string, reason: string): FollowOutcome {
    this.#refused = { text, reason, untilMs: performance.now() + REFUSED_FOR_MS };
    return { kind: "refused", reason };
  }

  /** Ports that are wanted for the first time are tried: whose are in force, HAProxy itself has them. */
  async #findPortsWithout(wanted: FollowedSettings): Promise<void> {
    if (this.#installed === undefined) return;
    const inForce = new Set(this.#installed.settings.tcpServices.map(({ port }) => port));
    const fresh = wanted.tcpServices.filter(({ port }) => !inForce.has(port));
    this.#portsWithout = new Map([...this.#portsWithout, ...(await problemsOf(fresh, wanted))]);
  }
}

function without(settings: FollowedSettings, ports: ReadonlyMap<number, string>): FollowedSettings {
  if (ports.size === 0) return settings;
  return { ...settings, tcpServices: settings.tcpServices.filter(({ port }) => !ports.has(port)) };
}

/** Those of the ports that are still wanted and still cannot be had. */
async function stillWithout(
  ports: ReadonlyMap<number, string>,
  settings: FollowedSettings,
): Promise<ReadonlyMap<number, string>> {
  return await problemsOf(
    settings.tcpServices.filter(({ port }) => ports.has(port)),
    settings,
  );
}

async function problemsOf(
  services: readonly TcpServiceSettings[],
  { tcpAddress = "0.0.0.0" }: FollowedSettings,
): Promise<ReadonlyMap<number, string>> {
  const problems = new Map<number, string>();
  for (const { port } of services) {
    const problem = await problemOf(tcpAddress.replaceAll(/[[\]]/g, ""), port);
    if (problem !== undefined) problems.set(port, problem);
  }
  return problems;
}

/** Why a port cannot be listened on, in the system's word; undefined: it can. */
function problemOf(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}
