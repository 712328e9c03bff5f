package mail_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/mail"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"
)

// received is a mail as the server got it.
type received struct {
	User, From, To string
	Secure         bool
	Header         mail.Header
	Raw            string
}

// server is an SMTP server that does what the recipient's name says: "tempfail",
// "reject", "quote" (refuses after DATA and quotes the mail), "drop" (hangs up after
// DATA) and "slow" (says nothing until released).
type server struct {
	t        *testing.T
	listener net.Listener
	cert     tls.Certificate
	roots    *x509.CertPool
	implicit bool
	noTLS    bool
	greeting string
	release  chan struct{}
	asked    chan struct{} // one for each "slow"

	mu       sync.Mutex
	inbox    []received
	sessions int
	attempts map[string]int
	conns    map[net.Conn]bool
	arrived  chan received
}

const user, password = "mailer", "mail-pw-8f2c"

func serve(t *testing.T, change func(*server)) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{
		t: t, listener: listener, greeting: "220 mx.acme.test ESMTP", release: make(chan struct{}), asked: make(chan struct{}, 100),
		attempts: map[string]int{}, conns: map[net.Conn]bool{}, arrived: make(chan received, 100),
	}
	s.cert, s.roots, _, _ = certificate(t)
	if change != nil {
		change(s)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[conn] = true
			s.sessions++
			s.mu.Unlock()
			group.Go(func() {
				defer conn.Close()
				if s.implicit {
					conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{s.cert}})
				}
				s.session(conn, s.implicit)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		s.mu.Lock()
		for conn := range s.conns {
			conn.Close()
		}
		s.mu.Unlock()
		group.Wait()
	})
	return s
}

func (s *server) port() int { return s.listener.Addr().(*net.TCPAddr).Port }

func (s *server) mails() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.inbox...)
}

func (s *server) tries(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attempts[name]
}

func (s *server) session(conn net.Conn, secure bool) {
	in, out := textproto.NewReader(bufio.NewReader(conn)), func(line string) { io.WriteString(conn, line+"\r\n") }
	if !secure || conn.(*tls.Conn).Handshake() == nil {
		out(s.greeting)
	}
	got := received{Secure: secure}
	for {
		line, err := in.ReadLine()
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			out("250-mx.acme.test")
			if !got.Secure && !s.noTLS {
				out("250-STARTTLS")
			}
			if got.Secure || s.noTLS {
				out("250-AUTH PLAIN")
			}
			out("250 8BITMIME")
		case "STARTTLS":
			out("220 go ahead")
			secured := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{s.cert}})
			if secured.Handshake() != nil {
				return
			}
			conn, in, got.Secure = secured, textproto.NewReader(bufio.NewReader(secured)), true
		case "AUTH":
			if plain, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(rest, "PLAIN ")); string(plain) != "\x00"+user+"\x00"+password {
				out("535 5.7.8 bad credentials for " + string(bytes.ReplaceAll(plain, []byte{0}, []byte(" "))))
				continue
			}
			got.User = user
			out("235 2.7.0 welcome")
		case "MAIL":
			if got.User == "" {
				out("530 5.7.0 sign in first")
				continue
			}
			got.From = rest
			out("250 2.1.0 ok")
		case "RCPT":
			got.To = strings.TrimSuffix(strings.TrimPrefix(rest, "TO:<"), ">")
			name, _, _ := strings.Cut(got.To, "@")
			s.mu.Lock()
			s.attempts[name]++
			s.mu.Unlock()
			switch name {
			case "tempfail":
				out("451 4.7.1 greylisted, try again")
			case "reject":
				out("550 5.1.1 no such user: " + got.To)
			case "slow":
				s.asked <- struct{}{}
				<-s.release
				out("250 2.1.5 ok")
			default:
				out("250 2.1.5 ok")
			}
		case "DATA":
			out("354 go on")
			lines, err := in.ReadDotLines()
			if err != nil {
				return
			}
			got.Raw = strings.Join(lines, "\r\n")
			switch {
			case strings.HasPrefix(got.To, "quote@"):
				out("554 5.7.1 looks like spam: " + lines[len(lines)-1] + ", " + strings.Repeat("0123456789", 4))
				continue
			case strings.HasPrefix(got.To, "drop@"):
				return
			}
			message, err := mail.ReadMessage(strings.NewReader(got.Raw))
			if err != nil {
				s.t.Error(err)
				return
			}
			got.Header = message.Header
			s.mu.Lock()
			s.inbox = append(s.inbox, got)
			s.mu.Unlock()
			s.arrived <- got
			out("250 2.0.0 queued")
		case "QUIT":
			out("221 2.0.0 bye")
			return
		default:
			out("250 2.0.0 ok")
		}
	}
}

// certificate makes one for 127.0.0.1 and localhost, with its key in PEM as well.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool, []byte, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx.acme.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pkcs, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots,
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs})
}
