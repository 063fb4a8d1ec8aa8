/**
 * `fairlead agent watch`: Services, rates and refusals of this node, as the kernel counts them.
 *
 * In: two readings of the counters and the time between them. Out: a page of text. It asks the kernel alone, so it works
 * beside an agent, without one, and without a cluster; IPVS knows addresses only, and those are shown.
 */

import type { IpFamily } from "../cluster/model.ts";
import type { Counters } from "./service-counters.ts";

export interface WatchLimits {
  readonly rows: number;
  readonly columns: number;
}

interface Row {
  readonly name: string;
  readonly rate: number;
  readonly total: number;
}

/** Busiest first; of equal rates those with more connections, then by name. */
export function renderPage(
  before: Counters | undefined,
  now: Counters,
  seconds: number,
  { rows, columns }: WatchLimits,
): string {
  const services = ranked(serviceRows(before, now, seconds));
  const refusals = ranked(refusalRows(before, now, seconds));
  const sum = (list: readonly Row[]): number => list.reduce((all, { rate }) => all + rate, 0);
  const head = [
    `${now.services.length} Service ports with connections · ${decimal(sum(services))} new/s · ${decimal(sum(refusals))} refused/s · masqueraded ${[...now.masqueraded].map(([family, count]) => `${family} ${count}`).join(", ") || "none"}`,
    "",
    `${"NEW/S".padStart(9)} ${"TOTAL".padStart(12)}  SERVICE PORT`,
  ];
  const tail =
    refusals.length === 0
      ? []
      : ["", `${"NEW/S".padStart(9)} ${"TOTAL".padStart(12)}  REFUSED, BY REASON`, ...refusals.map(print)];
  const room = Math.max(3, rows - head.length - tail.length - 1);
  const shown = services.slice(0, room).map(print);
  if (services.length > room) shown[room - 1] = `${" ".repeat(24)}… and ${services.length - room + 1} more`;
  const lines = [...head, ...(shown.length === 0 ? [`${" ".repeat(24)}none yet`] : shown), ...tail];
  return `${lines.map((line) => line.slice(0, columns)).join("\n")}\n`;
}

function serviceRows(before: Counters | undefined, now: Counters, seconds: number): readonly Row[] {
  const key = ({ family, namespace, service, protocol, port }: Counters["services"][number]): string =>
    `${namespace === "" ? service : `${namespace}/${service}`} ${port === "" ? "" : `${port} `}${protocol} ${family}`;
  const earlier = totals(before?.services ?? [], key);
  return rowsOf(totals(now.services, key), before === undefined ? undefined : earlier, seconds);
}

function refusalRows(before: Counters | undefined, now: Counters, seconds: number): readonly Row[] {
  const key = ({ family, reason }: { readonly family: IpFamily; readonly reason: string }): string =>
    `${reason} ${family}`;
  const counted = now.refusals.filter(({ connections }) => connections > 0);
  return rowsOf(
    totals(counted, key),
    before === undefined ? undefined : totals(before.refusals, key),
    seconds,
  );
}

function totals<T extends { readonly connections: number }>(
  list: readonly T[],
  key: (one: T) => string,
): ReadonlyMap<string, number> {
  const sums = new Map<string, number>();
  for (const one of list) sums.set(key(one), (sums.get(key(one)) ?? 0) + one.connections);
  return sums;
}

/** Without an earlier reading nothing is known of rates. A counter that has gone back was made anew. */
function rowsOf(
  now: ReadonlyMap<string, number>,
  before: ReadonlyMap<string, number> | undefined,
  seconds: number,
): readonly Row[] {
  return [...now].map(([name, total]) => {
    const earlier = before?.get(name) ?? 0;
    const grown = total >= earlier ? total - earlier : total;
    return { name, total, rate: before === undefined || seconds <= 0 ? 0 : grown / seconds };
  });
}

function ranked(rows: readonly Row[]): readonly Row[] {
  return [...rows].sort((a, b) => b.rate - a.rate || b.total - a.total || (a.name < b.name ? -1 : 1));
}

function print({ name, rate, total }: Row): string {
  return `${decimal(rate).padStart(9)} ${String(total).padStart(12)}  ${name}`;
}

function decimal(rate: number): string {
  return rate.toFixed(rate < 10 ? 1 : 0);
}
