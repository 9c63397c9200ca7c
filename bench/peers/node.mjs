// Does the work of a typical Lambda function in Node.js on one object: a regular expression parses the line, JSON.stringify writes
// the event, zlib's gzip compresses the request body. Bodies are discarded instead of sent.
//
// The code is optimised as usual: one compiled expression, whole chunks are split (readline is slower), objects of one shape, and
// compression in libuv's threads in parallel with parsing.

import { createReadStream } from 'node:fs';
import { promisify } from 'node:util';
import { createGunzip, constants, gzip as gzipCallback } from 'node:zlib';

const gzip = promisify(gzipCallback);
const BATCH_EVENTS = 2000;

const WORD = '([^ ]+)';
const QUOTED = '"([^"]*)"';
const NUMBER = '([-.0-9]+)';
const LINE = new RegExp(
  `^${WORD} ${WORD} ${WORD} ([^ ]+):(\\d+) (?:([^ ]+):(\\d+)|-) ${NUMBER} ${NUMBER} ${NUMBER} ` +
    `${NUMBER} ${NUMBER} ${NUMBER} ${NUMBER} "([^ "]+) ([^"]*) ([^ "]*)" ${QUOTED} ${WORD} ${WORD} ${WORD} ` +
    `${QUOTED} ${QUOTED} ${QUOTED} ${NUMBER} ${WORD} ${QUOTED} ${QUOTED} ${QUOTED} ${QUOTED} ${QUOTED} ${QUOTED} ${QUOTED} ` +
    `${WORD} ${QUOTED} ${QUOTED} ${QUOTED}(?: ([^ ]+))?`,
);

// JSON.stringify omits undefined values.
const text = (value) => (value === '-' ? undefined : value);
const number = (value) => (value === undefined || value === '-' || value === '-1' ? undefined : Number(value));

function toEvent(line, offset) {
  const match = LINE.exec(line);
  if (match === null) {
    return { message: line, log: { offset }, tags: ['_elbparsefailure'] };
  }
  return {
    '@timestamp': match[2],
    log: { offset },
    elb: {
      type: match[1],
      id: match[3],
      client_ip: match[4],
      client_port: number(match[5]),
      target_ip: match[6],
      target_port: number(match[7]),
      request_processing_time: number(match[8]),
      target_processing_time: number(match[9]),
      response_processing_time: number(match[10]),
      elb_status_code: number(match[11]),
      target_status_code: number(match[12]),
      received_bytes: number(match[13]),
      sent_bytes: number(match[14]),
      method: text(match[15]),
      url: match[16],
      protocol: text(match[17]),
      user_agent: text(match[18]),
      ssl_cipher: text(match[19]),
      ssl_protocol: text(match[20]),
      target_group_arn: text(match[21]),
      trace_id: text(match[22]),
      domain_name: text(match[23]),
      chosen_cert_arn: text(match[24]),
      matched_rule_priority: number(match[25]),
      request_creation_time: match[26],
      actions_executed: text(match[27]),
      redirect_url: text(match[28]),
      error_reason: text(match[29]),
      target_port_list: text(match[30]),
      target_status_code_list: text(match[31]),
      classification: text(match[32]),
      classification_reason: text(match[33]),
      conn_trace_id: text(match[34]),
      transformed_host: text(match[35]),
      transformed_uri: text(match[36]),
      request_transform_status: text(match[37]),
      ip_address: match[38],
    },
  };
}

async function* linesOf(path) {
  let rest = '';
  const chunks = createReadStream(path).pipe(createGunzip({ chunkSize: 1 << 18 }));
  for await (const chunk of chunks.setEncoding('utf8')) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop();
    yield lines;
  }
  if (rest !== '') {
    yield [rest];
  }
}

async function ship(path) {
  const totals = { lines: 0, rejected: 0, bytes: 0 };
  let [offset, events] = [0, []];
  const send = async () => {
    const body = await gzip(`[${events.join(',')}]`, { level: constants.Z_BEST_SPEED });
    totals.bytes += body.length;
    events = [];
  };
  for await (const lines of linesOf(path)) {
    for (const line of lines) {
      const event = toEvent(line, offset);
      totals.lines += 1;
      totals.rejected += event.tags === undefined ? 0 : 1;
      offset += line.length + 1;
      events.push(JSON.stringify(event));
      if (events.length === BATCH_EVENTS) {
        await send();
      }
    }
  }
  if (events.length > 0) {
    await send();
  }
  return totals;
}

console.log(JSON.stringify(await ship(process.argv[2])));
