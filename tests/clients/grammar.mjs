// The message grammar: every odd message that Chrome judges itself.
// `@` in a case stands for the session of its context (`,"sessionId":"…"` or nothing).

const bytes = (...parts) => Buffer.concat(parts.map(p => (typeof p === 'string' ? Buffer.from(p) : Buffer.from(p))));
const deep = (n, open, close, core = '0') => open.repeat(n) + core + close.repeat(n);
const M = 'Target.setDiscoverTargets'; // answers {} on a browser session and on a page session alike
const OK = '"params":{"discover":false}';

/** name → message as text, or bytes for a text frame. */
export const cases = {
  // not JSON
  'empty': '',
  'blank': ' ',
  'newline': '\n',
  'word': 'hello',
  'truncated object': `{"id":1,"method":"${M}"`,
  'truncated string': `{"id":1,"method":"Tar`,
  'trailing comma': `{"id":1,"method":"${M}",${OK}@,}`,
  'trailing bytes': `{"id":1,"method":"${M}",${OK}@}x`,
  'trailing brace': `{"id":1,"method":"${M}",${OK}@}}`,
  'two messages': `{"id":1,"method":"${M}",${OK}@}{"id":2,"method":"${M}",${OK}@}`,
  'two messages, newline': `{"id":1,"method":"${M}",${OK}@}\n{"id":2,"method":"${M}",${OK}@}`,
  'trailing blanks': `{"id":1,"method":"${M}",${OK}@} \t\r\n`,
  'leading blanks': ` \t\r\n{"id":1,"method":"${M}",${OK}@}`,
  'inner blanks': `{ "id" : 1 ,\r\n\t"method" : "${M}" , "params" : { "discover" : false } @ }`,
  'leading form feed': `\f{"id":1,"method":"${M}",${OK}@}`,
  'leading BOM': `\ufeff{"id":1,"method":"${M}",${OK}@}`,
  'leading no-break space': `\u00a0{"id":1,"method":"${M}",${OK}@}`,
  'line comment': `{"id":1,//x\n"method":"${M}",${OK}@}`,
  'block comment': `{"id":1,/*x*/"method":"${M}",${OK}@}`,
  'comment before': `/*x*/{"id":1,"method":"${M}",${OK}@}`,
  'comment after': `{"id":1,"method":"${M}",${OK}@}//x`,
  'single quotes': `{'id':1,'method':'${M}'}`,
  'bare keys': `{id:1,method:"${M}"}`,
  'missing colon': `{"id"1,"method":"${M}"}`,
  'missing comma': `{"id":1 "method":"${M}"}`,
  'double comma': `{"id":1,,"method":"${M}"}`,
  'leading comma': `{,"id":1,"method":"${M}"}`,
  'array': `[{"id":1,"method":"${M}",${OK}@}]`,
  'empty array': '[]',
  'number': '1',
  'string': '"x"',
  'null': 'null',
  'true': 'true',
  'NaN param': `{"id":1,"method":"${M}","params":{"discover":NaN}@}`,
  'empty object': '{}',

  // control characters and NUL
  'raw newline in string': `{"id":1,"method":"${M}","params":{"discover":false,"x":"a\nb"}@}`,
  'raw tab in string': `{"id":1,"method":"${M}","params":{"discover":false,"x":"a\tb"}@}`,
  'raw 0x01 in string': `{"id":1,"method":"${M}","params":{"discover":false,"x":"a\u0001b"}@}`,
  'raw 0x1f in string': `{"id":1,"method":"${M}","params":{"discover":false,"x":"a\u001fb"}@}`,
  'raw 0x7f in string': `{"id":1,"method":"${M}","params":{"discover":false,"x":"a\u007fb"}@}`,
  'raw NUL in string': `{"id":1,"method":"${M}","params":{"discover":false,"x":"a\u0000b"}@}`,
  'raw NUL in method': `{"id":1,"method":"Target.\u0000x"@}`,
  'raw NUL in key': `{"id":1,"method":"${M}","params":{"discover":false,"x\u0000y":1}@}`,
  'raw NUL in top key': `{"id":1,"method":"${M}",${OK},"x\u0000y":1@}`,
  'raw NUL between': `{"id":1,\u0000"method":"${M}",${OK}@}`,
  'raw NUL before': `\u0000{"id":1,"method":"${M}",${OK}@}`,
  'raw NUL after': `{"id":1,"method":"${M}",${OK}@}\u0000`,
  'only NUL': '\u0000',
  'NUL splits two': `{"id":1,"method":"${M}",${OK}@}\u0000{"id":2,"method":"${M}",${OK}@}`,
  'escaped NUL in string': `{"id":1,"method":"${M}","params":{"discover":false,"x":"a\\u0000b"}@}`,
  'escaped NUL in method': `{"id":1,"method":"Target.\\u0000x"@}`,

  // escapes and strings
  'escaped key': `{"\\u0069d":1,"method":"${M}",${OK}@}`,
  'escaped method': `{"id":1,"\\u006dethod":"${M.replace('T', '\\u0054')}",${OK}@}`,
  'bad escape': `{"id":1,"method":"${M}","params":{"discover":false,"x":"\\q"}@}`,
  'x escape': `{"id":1,"method":"${M}","params":{"discover":false,"x":"\\x41"}@}`,
  'v escape': `{"id":1,"method":"${M}","params":{"discover":false,"x":"\\v"}@}`,
  'single quote escape': `{"id":1,"method":"${M}","params":{"discover":false,"x":"\\'"}@}`,
  'slash escape': `{"id":1,"method":"${M}","params":{"discover":false,"x":"\\/"}@}`,
  'short u escape': `{"id":1,"method":"${M}","params":{"discover":false,"x":"\\u12"}@}`,
  'bad u escape': `{"id":1,"method":"${M}","params":{"discover":false,"x":"\\u12G4"}@}`,
  'lone high surrogate': `{"id":1,"method":"${M}","params":{"discover":false,"x":"\\ud800"}@}`,
  'lone low surrogate': `{"id":1,"method":"${M}","params":{"discover":false,"x":"\\udc00"}@}`,
  'lone surrogate in method': `{"id":1,"method":"\\ud800"@}`,
  'astral': `{"id":1,"method":"😀"@}`,

  // not UTF-8
  'invalid UTF-8 in string': bytes(`{"id":1,"method":"${M}","params":{"discover":false,"x":"`, [0xff], `"}@}`),
  'overlong UTF-8': bytes(`{"id":1,"method":"${M}","params":{"discover":false,"x":"`, [0xc0, 0x80], `"}@}`),
  'surrogate as UTF-8': bytes(`{"id":1,"method":"${M}","params":{"discover":false,"x":"`, [0xed, 0xa0, 0x80], `"}@}`),
  'truncated UTF-8 at the end': bytes(`{"id":1,"method":"${M}",${OK}@}`, [0xe2, 0x82]),
  'invalid UTF-8 alone': bytes([0xff]),
  'overlong UTF-8 of 0x80': bytes(`{"id":1,"method":"${M}","params":{"discover":false,"x":"`, [0xe0, 0x82, 0x80], `"}@}`),
  'UTF-8 beyond U+10FFFF': bytes(`{"id":1,"method":"${M}","params":{"discover":false,"x":"`, [0xf4, 0x90, 0x80, 0x80], `"}@}`),
  'UTF-8 cut by the quote': bytes(`{"id":1,"method":"${M}","params":{"discover":false,"x":"`, [0xe2, 0x82], `"}@}`),
  'UTF-8 with no continuation': bytes(`{"id":1,"method":"${M}","params":{"discover":false,"x":"`, [0xe2], `abc"}@}`),
  'UTF-8 continuation alone': bytes(`{"id":1,"method":"${M}","params":{"discover":false,"x":"`, [0x80], `"}@}`),
  'UTF-8 5 bytes': bytes(`{"id":1,"method":"${M}","params":{"discover":false,"x":"`, [0xf8, 0x88, 0x80, 0x80, 0x80], `"}@}`),
  'U+FFFE in string': `{"id":1,"method":"${M}","params":{"discover":false,"x":"\ufffe\uffff"}@}`,

  // id
  'no id': `{"method":"${M}",${OK}@}`,
  'id null': `{"id":null,"method":"${M}",${OK}@}`,
  'id string': `{"id":"1","method":"${M}",${OK}@}`,
  'id true': `{"id":true,"method":"${M}",${OK}@}`,
  'id object': `{"id":{},"method":"${M}",${OK}@}`,
  'id array': `{"id":[1],"method":"${M}",${OK}@}`,
  'id 0': `{"id":0,"method":"${M}",${OK}@}`,
  'id -0': `{"id":-0,"method":"${M}",${OK}@}`,
  'id -1': `{"id":-1,"method":"${M}",${OK}@}`,
  'id 1.0': `{"id":1.0,"method":"${M}",${OK}@}`,
  'id -0.0': `{"id":-0.0,"method":"${M}",${OK}@}`,
  'id 1.5': `{"id":1.5,"method":"${M}",${OK}@}`,
  'id 1e2': `{"id":1e2,"method":"${M}",${OK}@}`,
  'id 1E+2': `{"id":1E+2,"method":"${M}",${OK}@}`,
  'id 100e-2': `{"id":100e-2,"method":"${M}",${OK}@}`,
  'id 1e-1': `{"id":1e-1,"method":"${M}",${OK}@}`,
  'id 2147483647': `{"id":2147483647,"method":"${M}",${OK}@}`,
  'id 2147483647.0': `{"id":2147483647.0,"method":"${M}",${OK}@}`,
  'id 2147483648': `{"id":2147483648,"method":"${M}",${OK}@}`,
  'id -2147483648': `{"id":-2147483648,"method":"${M}",${OK}@}`,
  'id -2147483649': `{"id":-2147483649,"method":"${M}",${OK}@}`,
  'id 1e9': `{"id":1e9,"method":"${M}",${OK}@}`,
  'id 1e10': `{"id":1e10,"method":"${M}",${OK}@}`,
  'id 1e400': `{"id":1e400,"method":"${M}",${OK}@}`,
  'id 9007199254740993': `{"id":9007199254740993,"method":"${M}",${OK}@}`,
  'id 40 digits': `{"id":${'1'.repeat(40)},"method":"${M}",${OK}@}`,
  'id 01': `{"id":01,"method":"${M}",${OK}@}`,
  'id +1': `{"id":+1,"method":"${M}",${OK}@}`,
  'id .5': `{"id":.5,"method":"${M}",${OK}@}`,
  'id 1.': `{"id":1.,"method":"${M}",${OK}@}`,
  'id 0x1': `{"id":0x1,"method":"${M}",${OK}@}`,
  'id -': `{"id":-,"method":"${M}",${OK}@}`,
  'id 1e': `{"id":1e,"method":"${M}",${OK}@}`,
  'id Infinity': `{"id":Infinity,"method":"${M}",${OK}@}`,
  'Id': `{"Id":1,"method":"${M}",${OK}@}`,

  // method
  'no method': '{"id":1@}',
  'method null': '{"id":1,"method":null@}',
  'method number': '{"id":1,"method":5@}',
  'method empty': '{"id":1,"method":""@}',
  'method object': '{"id":1,"method":{}@}',
  'no id, no method': '{"params":{}@}',
  'method without dot': '{"id":1,"method":"foo"@}',
  'method dot': '{"id":1,"method":"."@}',
  'unknown domain': '{"id":1,"method":"Foo.bar"@}',
  'unknown method': '{"id":1,"method":"Target.nope"@}',
  'unknown method with quote': '{"id":1,"method":"Target.\\"x\\\\y\\n"@}',
  'unknown method, html': '{"id":1,"method":"Target.<script>&é"@}',
  'method with blanks': `{"id":1,"method":" ${M}"@}`,
  'method two dots': '{"id":1,"method":"Target.x.y"@}',
  'method other case': '{"id":1,"method":"target.setDiscoverTargets"@}',

  // params
  'no params': `{"id":1,"method":"Target.getTargetInfo"@}`,
  'params null': `{"id":1,"method":"${M}","params":null@}`,
  'params array': `{"id":1,"method":"${M}","params":[]@}`,
  'params string': `{"id":1,"method":"${M}","params":"x"@}`,
  'params number': `{"id":1,"method":"${M}","params":1@}`,
  'params empty': `{"id":1,"method":"${M}","params":{}@}`,
  'params missing': `{"id":1,"method":"${M}"@}`,
  'params wrong type': `{"id":1,"method":"${M}","params":{"discover":"x"}@}`,
  'params extra key': `{"id":1,"method":"${M}","params":{"discover":false,"nope":1}@}`,
  'params duplicate key': `{"id":1,"method":"${M}","params":{"discover":true,"discover":false}@}`,
  'params null, unknown method': '{"id":1,"method":"Foo.bar","params":null@}',

  // top-level keys
  'extra top key': `{"id":1,"method":"${M}",${OK},"foo":1@}`,
  'extra top key null': `{"id":1,"method":"${M}",${OK},"foo":null@}`,
  'extra top key, no method': `{"id":1,"foo":1@}`,
  'jsonrpc key': `{"jsonrpc":"2.0","id":1,"method":"${M}",${OK}@}`,
  'result key': `{"id":1,"method":"${M}",${OK},"result":{}@}`,
  'duplicate id': `{"id":1,"id":2,"method":"${M}",${OK}@}`,
  'duplicate same id': `{"id":1,"id":1,"method":"${M}",${OK}@}`,
  'duplicate method': `{"id":1,"method":"Foo.bar","method":"${M}",${OK}@}`,
  'duplicate params': `{"id":1,"method":"${M}","params":{},${OK}@}`,
  'duplicate unknown key': `{"id":1,"method":"${M}",${OK},"foo":1,"foo":1@}`,
  'empty key': `{"id":1,"method":"${M}",${OK},"":1@}`,
  'session first': `{@"id":1,"method":"${M}",${OK}}`,
  'method first': `{"method":"${M}",${OK},"id":1@}`,

  // sessionId
  'session null': `{"id":1,"method":"${M}",${OK},"sessionId":null}`,
  'session number': `{"id":1,"method":"${M}",${OK},"sessionId":5}`,
  'session object': `{"id":1,"method":"${M}",${OK},"sessionId":{}}`,
  'session true': `{"id":1,"method":"${M}",${OK},"sessionId":true}`,
  'session empty': `{"id":1,"method":"${M}",${OK},"sessionId":""}`,
  'session unknown': `{"id":1,"method":"${M}",${OK},"sessionId":"0123456789ABCDEF0123456789ABCDEF"}`,
  'session garbage': `{"id":1,"method":"${M}",${OK},"sessionId":"x\\"y"}`,
  'session unknown, no method': `{"id":1,"sessionId":"0123456789ABCDEF0123456789ABCDEF"}`,
  'session unknown, no id': `{"method":"${M}","sessionId":"0123456789ABCDEF0123456789ABCDEF"}`,
  'session unknown, unknown method': `{"id":1,"method":"Foo.bar","sessionId":"0123456789ABCDEF0123456789ABCDEF"}`,
  'session unknown, bad params': `{"id":1,"method":"${M}","params":5,"sessionId":"0123456789ABCDEF0123456789ABCDEF"}`,
  'session unknown, extra key': `{"id":1,"method":"${M}","foo":5,"sessionId":"0123456789ABCDEF0123456789ABCDEF"}`,
  'session null, unknown method': `{"id":1,"method":"Foo.bar","sessionId":null}`,
  'duplicate session': `{"id":1,"method":"${M}",${OK},"sessionId":"","sessionId":""}`,
  'duplicate unknown session': `{"id":1,"method":"${M}",${OK},"sessionId":"x","sessionId":"x"}`,
  'session not ASCII': `{"id":1,"method":"${M}",${OK},"sessionId":"é"}`,
  'session null, no id yet': `{"sessionId":null,"id":1,"method":"${M}"}`,
  'session null, then no method': `{"id":1,"sessionId":null}`,
  'bad params before bad id': `{"params":5,"id":"x"}`,
  'bad method before id': `{"method":5,"id":1}`,
  'key not ASCII': `{"id":1,"method":"${M}",${OK},"é":1@}`,
  'key not ASCII, no id': `{"é":1}`,
  'duplicate method, first empty': `{"id":1,"method":"","method":"${M}",${OK}@}`,
  'duplicate params, first null': `{"id":1,"method":"${M}","params":null,${OK}@}`,
  'duplicate params, both null': `{"id":1,"method":"${M}","params":null,"params":null@}`,
  'duplicate params after text': `{"id":1,"method":"${M}","params":{"discover":false,"x":"é\\n\\u00e9aa","y":1.5,"z":-5,"w":[300,70000,true,null]},${OK}@}`,
  'duplicate id before any': `{"id":5,"id":6}`,
  'duplicate long key': `{"id":1,"method":"${'x'.repeat(300)}","method":"x"@}`,
  'duplicate after key order': `{"method":"${M}","id":-70000,"id":1@}`,
  'escaped session key': `{"id":1,"method":"${M}",${OK},"session\\u0049d":""}`,

  // nesting
  ...Object.fromEntries(
    [128, 298, 299, 100_000].flatMap(n => [
      [`params arrays ${n} deep`, `{"id":1,"method":"${M}","params":{"discover":false,"x":${deep(n, '[', ']')}}@}`],
      [`params objects ${n} deep`, `{"id":1,"method":"${M}","params":{"discover":false,"x":${deep(n, '{"a":', '}')}}@}`],
    ]),
  ),
  'empty arrays 298 deep': `{"id":1,"method":"${M}","params":{"discover":false,"x":${deep(298, '[', ']', '')}}@}`,
  'unclosed arrays': `{"id":1,"method":"${M}","params":{"x":${'['.repeat(400)}`,
  'top arrays 1000 deep': deep(1000, '[', ']'),

  // numbers in params
  'param 1e400': `{"id":1,"method":"${M}","params":{"discover":false,"x":1e400}@}`,
  'param -1e400': `{"id":1,"method":"${M}","params":{"discover":false,"x":-1e400}@}`,
  'param 01': `{"id":1,"method":"${M}","params":{"discover":false,"x":01}@}`,
  'param 1.': `{"id":1,"method":"${M}","params":{"discover":false,"x":1.}@}`,
  'param .1': `{"id":1,"method":"${M}","params":{"discover":false,"x":.1}@}`,
  'param 1e5': `{"id":1,"method":"${M}","params":{"discover":false,"x":1e5}@}`,
  'param -': `{"id":1,"method":"${M}","params":{"discover":false,"x":-}@}`,
  'param 00': `{"id":1,"method":"${M}","params":{"discover":false,"x":-00}@}`,
  'param True': `{"id":1,"method":"${M}","params":{"discover":False}@}`,
  'param undefined': `{"id":1,"method":"${M}","params":{"discover":false,"x":undefined}@}`,
  'param trailing comma': `{"id":1,"method":"${M}","params":{"discover":false,"x":[1,]}@}`,
  'param object trailing comma': `{"id":1,"method":"${M}","params":{"discover":false,}@}`,
  'param number key': `{"id":1,"method":"${M}","params":{"discover":false,1:2}@}`,
};

/** The message of a case for a session (`''` for the root). */
export function fill(message, session) {
  const text = Buffer.isBuffer(message) ? message.toString('latin1') : message;
  let filled = text;
  const field = session ? `"sessionId":"${session}"` : '';
  if (text.startsWith('{@')) filled = text.replace('@', field ? `${field},` : '');
  else filled = text.replaceAll('@', field ? `,${field}` : '');
  return Buffer.isBuffer(message) ? Buffer.from(filled, 'latin1') : Buffer.from(filled);
}

/** A small generator of numbers, the same for a seed everywhere (mulberry32). */
function numbers(seed) {
  let state = seed >>> 0;
  return below => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

const PIECES = [
  '"id"', '"method"', '"params"', '"sessionId"', '"x"', '"é"', '"\\u0069d"', ':', ',', '{', '}', '[', ']', '{}', '[]', '""', '"é"', '"\\ud83d"', '"a\\nb"', '"\\x41"',
  '1', '0', '-1', '1.5', '1e3', '1e400', '123456789012', '-0.0', 'null', 'true', 'false', 'nul', ' ', '\t', '\n', '\f', '\v', '\u0000', '\u0001', '\\', '"', '//', '/*', '@',
  `"${M}"`, '"Foo.bar"', '{"discover":false}', '"id":7,', '"x":1,', '"sessionId":"",', '"params":null,', '"method":"Foo.bar",',
].map(p => Buffer.from(p)).concat([[0xff], [0xc3], [0xed, 0xa0, 0x80], [0xf0, 0x9f, 0x98, 0x80], [0x80]].map(b => Buffer.from(b)));

/** `count` damaged messages, the same for a seed. */
export function mutants(seed, count) {
  const below = numbers(seed);
  const bases = Object.values(cases).map(m => Buffer.from(m)).filter(m => m.length > 0 && m.length < 300);
  const made = {};
  for (let n = 0; n < count; n++) {
    let message = bases[below(bases.length)];
    for (let times = 1 + below(3); times > 0; times--) {
      const at = below(message.length + 1);
      const piece = PIECES[below(PIECES.length)];
      const cut = [0, 0, 1, 1, 1 + below(8)][below(5)];
      message = Buffer.concat([message.subarray(0, at), below(4) ? piece : Buffer.alloc(0), message.subarray(at + cut)]);
    }
    made[n] = message;
  }
  return made;
}
