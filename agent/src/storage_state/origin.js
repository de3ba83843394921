// Runs in an empty page of one origin: reads or writes what the origin stores. Shapes are those
// of Playwright's storage state; values that JSON cannot hold are encoded as Playwright does it,
// so that either side reads what the other wrote.
(() => {
  'use strict';

  const ARRAYS = {
    i8: Int8Array, ui8: Uint8Array, ui8c: Uint8ClampedArray, i16: Int16Array, ui16: Uint16Array,
    i32: Int32Array, ui32: Uint32Array, f32: Float32Array, f64: Float64Array,
    bi64: BigInt64Array, bui64: BigUint64Array,
  };
  const NAMED = { undefined, null: null, NaN, Infinity, '-Infinity': -Infinity, '-0': -0 };

  const toBase64 = bytes => {
    const pieces = [];
    // In pieces: a call takes only so many arguments.
    for (let at = 0; at < bytes.length; at += 0x8000) {
      pieces.push(String.fromCharCode(...bytes.subarray(at, at + 0x8000)));
    }
    return btoa(pieces.join(''));
  };
  const fromBase64 = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));

  /** Whether JSON keeps a value as it is. `above`: the objects that it is part of. */
  const isPlain = (value, above = new Set()) => {
    if (value === null || typeof value === 'string' || typeof value === 'boolean') return true;
    if (typeof value === 'number') return Number.isFinite(value) && !Object.is(value, -0);
    if (typeof value !== 'object' || above.has(value)) return false;
    if (!Array.isArray(value) && Object.getPrototypeOf(value) !== Object.prototype) return false;
    above.add(value);
    // By index for arrays: a hole is no value of JSON's.
    const parts = Array.isArray(value) ? Array.from(value) : Object.values(value);
    const plain = parts.every(part => isPlain(part, above));
    above.delete(value);
    return plain;
  };

  /** A value as JSON that says of which kind each part is. `ids`: objects that were seen. */
  const encode = (value, ids = new Map()) => {
    for (const [name, named] of Object.entries(NAMED)) {
      if (Object.is(value, named)) return { v: name };
    }
    if (typeof value === 'bigint') return { bi: String(value) };
    if (typeof value !== 'object') return value;
    if (value instanceof Error) return { e: { n: value.name, m: value.message, s: String(value.stack) } };
    if (value instanceof Date) return { d: value.toJSON() };
    if (value instanceof RegExp) return { r: { p: value.source, f: value.flags } };
    if (value instanceof ArrayBuffer) return { ab: { b: toBase64(new Uint8Array(value)) } };
    for (const [k, kind] of Object.entries(ARRAYS)) {
      if (value instanceof kind) {
        return { ta: { b: toBase64(new Uint8Array(value.buffer, value.byteOffset, value.byteLength)), k } };
      }
    }
    if (ids.has(value)) return { ref: ids.get(value) };
    const id = ids.size + 1;
    ids.set(value, id);
    const inner = part => encode(part, ids);
    if (value instanceof Map) return { m: [...value].map(([k, v]) => ({ k: inner(k), v: inner(v) })), id };
    if (value instanceof Set) return { s: [...value].map(inner), id };
    if (Array.isArray(value)) return { a: Array.from(value, inner), id };
    return { o: Object.entries(value).map(([k, v]) => ({ k, v: inner(v) })), id };
  };

  /** What `encode` was given. */
  const decode = (code, seen = new Map()) => {
    if (typeof code !== 'object' || code === null) return code;
    const inner = part => decode(part, seen);
    const keep = value => (seen.set(code.id, value), value);
    if ('ref' in code) return seen.get(code.ref);
    if ('v' in code) return NAMED[code.v];
    if ('bi' in code) return BigInt(code.bi);
    if ('d' in code) return new Date(code.d ?? NaN);
    if ('u' in code) return code.u; // an URL cannot be stored, only its text
    if ('r' in code) return new RegExp(code.r.p, code.r.f);
    if ('ab' in code) return fromBase64(code.ab.b).buffer;
    if ('ta' in code) return new ARRAYS[code.ta.k](fromBase64(code.ta.b).buffer);
    if ('e' in code) {
      return Object.assign(new Error(code.e.m), { name: code.e.n, stack: code.e.s });
    }
    if ('m' in code) {
      const map = keep(new Map());
      for (const { k, v } of code.m) map.set(inner(k), inner(v));
      return map;
    }
    if ('s' in code) {
      const set = keep(new Set());
      for (const item of code.s) set.add(inner(item));
      return set;
    }
    if ('a' in code) {
      const array = keep([]);
      for (const item of code.a) array.push(inner(item));
      return array;
    }
    if ('o' in code) {
      const object = keep({});
      for (const { k, v } of code.o) {
        // Not by assignment: `__proto__` is a name as any other.
        Object.defineProperty(object, k, { value: inner(v), writable: true, enumerable: true, configurable: true });
      }
      return object;
    }
    throw new Error('a value is encoded in an unknown way');
  };

  /** `{name: value}`, or `{nameEncoded: …}` when JSON cannot hold the value. */
  const member = (name, value) => (isPlain(value) ? { [name]: value } : { [`${name}Encoded`]: encode(value) });
  const unmember = (name, from) => (name in from ? from[name] : decode(from[`${name}Encoded`]));

  /** A path of keys, which is text or a list of texts. */
  const path = ({ keyPath }) =>
    keyPath === null ? {} : typeof keyPath === 'string' ? { keyPath } : { keyPathArray: [...keyPath] };
  const unpath = ({ keyPath, keyPathArray }) => keyPathArray ?? keyPath ?? null;

  const answered = request => new Promise((resolve, reject) => {
    request.addEventListener('success', () => resolve(request.result));
    request.addEventListener('error', () => reject(request.error));
    request.addEventListener('blocked', () => reject(new Error('another page keeps it')));
  });

  /** Thrown when more is stored than may be read. */
  const TOO_MUCH = new Error('too much');
  const budget = limit => ({
    left: limit,
    take(text) {
      this.left -= text.length;
      if (this.left < 0) throw TOO_MUCH;
    },
  });

  const readStore = (store, left) => new Promise((resolve, reject) => {
    const records = [];
    const request = store.openCursor();
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const cursor = request.result;
      if (cursor === null) {
        const indexes = [...store.indexNames].map(name => store.index(name)).map(index => (
          { name: index.name, ...path(index), multiEntry: index.multiEntry, unique: index.unique }
        ));
        resolve({ name: store.name, autoIncrement: store.autoIncrement, ...path(store), records, indexes });
        return;
      }
      try {
        const key = store.keyPath === null ? member('key', cursor.primaryKey) : {};
        const record = { ...key, ...member('value', cursor.value) };
        left.take(JSON.stringify(record));
        records.push(record);
        cursor.continue();
      } catch (error) {
        reject(error);
      }
    };
  });

  /** A database, or `null` when it has gone meanwhile. */
  const readDatabase = async (name, left) => {
    const request = indexedDB.open(name);
    let gone = false;
    request.onupgradeneeded = () => {
      gone = true; // opening it has made it anew: not so
      request.transaction.abort();
    };
    const database = await answered(request).catch(error => {
      if (gone) return null;
      throw error;
    });
    if (database === null) return null;
    database.onversionchange = () => database.close(); // a page that wants it for itself comes first
    try {
      const names = [...database.objectStoreNames];
      const stores = [];
      if (names.length > 0) {
        const transaction = database.transaction(names, 'readonly');
        for (const store of names) stores.push(readStore(transaction.objectStore(store), left));
      }
      return { name, version: database.version, stores: await Promise.all(stores) };
    } finally {
      database.close();
    }
  };

  const writeDatabase = async ({ name, version, stores }) => {
    await answered(indexedDB.deleteDatabase(name));
    const request = indexedDB.open(name, version);
    let fault = null;
    request.onupgradeneeded = () => {
      try {
        for (const store of stores) {
          const options = { keyPath: unpath(store), autoIncrement: store.autoIncrement };
          const made = request.result.createObjectStore(store.name, options);
          for (const { name: index, unique, multiEntry, ...keys } of store.indexes) {
            made.createIndex(index, unpath(keys), { unique, multiEntry });
          }
        }
      } catch (error) {
        fault = error;
        request.transaction.abort();
      }
    };
    const database = await answered(request).catch(error => { throw fault ?? error; });
    try {
      if (stores.length === 0) return;
      const transaction = database.transaction(stores.map(store => store.name), 'readwrite');
      const written = new Promise((resolve, reject) => {
        transaction.oncomplete = resolve;
        transaction.onabort = () => reject(transaction.error ?? fault);
      });
      for (const { name: store, records } of stores) {
        for (const record of records) {
          const key = unmember('key', record);
          const value = unmember('value', record);
          const into = transaction.objectStore(store);
          if (key === undefined) into.add(value);
          else into.add(value, key);
        }
      }
      await written;
    } finally {
      database.close();
    }
  };

  /** Says of which part a fault is. */
  const within = async (part, steps) => {
    try {
      return await steps();
    } catch (error) {
      throw error === TOO_MUCH ? error : new Error(`${part}: ${error.message}`);
    }
  };

  /** All that the origin stores, as JSON; empty: nothing. */
  const stored = async left => {
    const items = await within('local storage', () => {
      const names = Array.from({ length: localStorage.length }, (_, n) => localStorage.key(n));
      const found = names.map(name => ({ name, value: localStorage.getItem(name) }));
      for (const item of found) left.take(item.name + item.value);
      return found;
    });
    const databases = [];
    for (const { name } of await indexedDB.databases()) {
      databases.push(await within(`IndexedDB ${name}`, () => readDatabase(name, left)));
    }
    const found = databases.filter(database => database !== null);
    if (items.length + found.length === 0) return '';
    return JSON.stringify({ localStorage: items, ...(found.length > 0 && { indexedDB: found }) });
  };

  return {
    /** What is stored, as JSON; empty when nothing is, `null` when it is more than about `limit` characters. */
    read: limit => stored(budget(limit)).catch(error => {
      if (error === TOO_MUCH) return null;
      throw error;
    }),

    /** Stores what `text` says, in place of what was there under the same names. */
    write: async text => {
      const { localStorage: items, indexedDB: databases } = JSON.parse(text);
      await within('local storage', () => {
        for (const { name, value } of items) localStorage.setItem(name, value);
      });
      for (const database of databases) {
        await within(`IndexedDB ${database.name}`, () => writeDatabase(database));
      }
    },
  };
})()
