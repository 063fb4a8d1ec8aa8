/**
 * Metrics in Prometheus' text format (version 0.0.4), by its conventions: `_total` for counters, base units,
 * `_seconds` for histograms.
 */

/** Seconds; from a local KV write to a lock-out. */
const BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

type Labels = Readonly<Record<string, string>>;

export interface Counter {
  readonly add: (amount: number, labels?: Labels) => void;
}

export interface Histogram {
  /** In seconds. */
  readonly observe: (seconds: number, labels?: Labels) => void;
}

export interface Metrics {
  readonly counter: (name: string, help: string) => Counter;
  readonly histogram: (name: string, help: string) => Histogram;
  /** Read when asked for. */
  readonly gauge: (
    name: string,
    help: string,
    read: () => readonly (readonly [labels: Labels, value: number])[],
  ) => void;
  readonly text: () => string;
}

export function createMetrics(): Metrics {
  const families: (() => readonly string[])[] = [];
  const family = (name: string, type: string, help: string, lines: () => readonly string[]): void => {
    families.push(() => [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...lines()]);
  };
  return {
    counter: (name, help) => {
      const values = new Map<string, number>();
      family(name, "counter", help, () => [...values].map(([labels, value]) => `${name}${labels} ${value}`));
      return {
        add: (amount, labels = {}) => {
          const key = print(labels);
          values.set(key, (values.get(key) ?? 0) + amount);
        },
      };
    },
    histogram: (name, help) => {
      const series = new Map<string, { labels: Labels; counts: number[]; sum: number; count: number }>();
      family(name, "histogram", help, () =>
        [...series.values()].flatMap(({ labels, counts, sum, count }) => [
          ...BUCKETS.map(
            (bound, at) => `${name}_bucket${print({ ...labels, le: String(bound) })} ${counts[at] ?? 0}`,
          ),
          `${name}_bucket${print({ ...labels, le: "+Inf" })} ${count}`,
          `${name}_sum${print(labels)} ${sum}`,
          `${name}_count${print(labels)} ${count}`,
        ]),
      );
      return {
        observe: (seconds, labels = {}) => {
          const key = print(labels);
          const one = series.get(key) ?? { labels, counts: BUCKETS.map(() => 0), sum: 0, count: 0 };
          series.set(key, one);
          one.sum += seconds;
          one.count++;
          BUCKETS.forEach((bound, at) => {
            if (seconds <= bound) one.counts[at] = (one.counts[at] ?? 0) + 1;
          });
        },
      };
    },
    gauge: (name, help, read) =>
      family(name, "gauge", help, () => read().map(([labels, value]) => `${name}${print(labels)} ${value}`)),
    text: () => `${families.flatMap((lines) => lines()).join("\n")}\n`,
  };
}

function print(labels: Labels): string {
  const parts = Object.entries(labels).map(([name, value]) => {
    const escaped = value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
    return `${name}="${escaped}"`;
  });
  return parts.length === 0 ? "" : `{${parts.join(",")}}`;
}
