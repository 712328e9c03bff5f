// An SMTP server for the tests, of the npm package smtp-server: STARTTLS is required
// before AUTH, and the recipient's name chooses the answer. The key and certificate
// come in the environment. Every line of its output is JSON: the port first, then the
// mails. It ends when its input does.
import { SMTPServer } from 'smtp-server';

const say = value => process.stdout.write(JSON.stringify(value) + '\n');
const refusal = (code, text) => Object.assign(new Error(text), { responseCode: code });
const answers = { tempfail: [451, '4.7.1 greylisted, try again'], reject: [550, '5.1.1 no such user'] };

const server = new SMTPServer({
  key: process.env.MX_KEY, cert: process.env.MX_CERT, authMethods: ['PLAIN', 'LOGIN'], allowInsecureAuth: false,
  disableReverseLookup: true, size: 1 << 20,
  onAuth(auth, session, done) {
    if (auth.username === process.env.MX_USER && auth.password === process.env.MX_PASSWORD) done(null, { user: auth.username });
    else done(refusal(535, '5.7.8 bad credentials'));
  },
  onRcptTo(address, session, done) {
    const answer = answers[address.address.split('@')[0]];
    done(answer && refusal(...answer));
  },
  onData(stream, session, done) {
    const parts = [];
    stream.on('data', part => parts.push(part));
    stream.on('end', () => {
      say({ secure: session.secure, user: session.user, to: session.envelope.rcptTo[0].address, raw: Buffer.concat(parts).toString() });
      done(null, 'queued');
    });
  },
});
server.on('error', () => {});
server.listen(0, '127.0.0.1', () => say({ port: server.server.address().port }));
process.stdin.resume().on('end', () => process.exit(0));
