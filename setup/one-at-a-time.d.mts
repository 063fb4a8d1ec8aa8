export function oneAtATime<T>(
  name: string,
  action: () => Promise<T>,
  options?: { readonly folder?: string; readonly tell?: (sentence: string) => void },
): Promise<T>;
