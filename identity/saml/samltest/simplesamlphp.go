package samltest

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// folder is where Debian's package simplesamlphp is.
const folder = "/usr/share/simplesamlphp"

// IdP is SimpleSAMLphp as an identity provider on loopback, with the users alice
// (password alice-pw, mail alice@acme.test, groups platform and admins) and bob.
type IdP struct {
	URL      string // of the server
	EntityID string
	data     string // folder that it reads service providers from
}

// SP is a service provider for an [IdP] to know.
type SP struct {
	EntityID, ACS       string
	Signing, Encryption *x509.Certificate
	// What is signed. Requests always have to be.
	SignResponse, SignAssertion bool
	// Encrypt encrypts assertions: with AES-128 in CBC mode, which is all that version
	// 1.19 does by itself, or with GCM in the same way.
	Encrypt, GCM bool
	NameIDFormat string // when nothing else is asked for; Persistent unless set
}

// Start runs SimpleSAMLphp until the test ends. Where it is not installed, the test is
// skipped.
func Start(t testing.TB) *IdP {
	t.Helper()
	php, err := exec.LookPath("php")
	if _, missing := os.Stat(folder + "/www"); err != nil || missing != nil {
		t.Skip("no SimpleSAMLphp to test with, install simplesamlphp php-cli php-xml php8.2-fpm nginx-light")
	}
	address := free(t)
	i := &IdP{URL: "http://" + address, EntityID: "http://" + address + "/idp"}
	home := t.TempDir()
	i.data = filepath.Join(home, "data")
	i.configure(t, home)

	cmd := exec.Command(php, "-d", "auto_prepend_file="+filepath.Join(home, "gcm.php"), "-d", "display_errors=0", "-S", address, "-t", folder+"/www") //nolint:gosec // php from PATH, for a test
	cmd.Env = append(os.Environ(), "SIMPLESAMLPHP_CONFIG_DIR="+filepath.Join(home, "config"), "PHP_CLI_SERVER_WORKERS=2")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the workers outlive their parent
		_ = cmd.Wait()
		if t.Failed() {
			logged, _ := os.ReadFile(filepath.Join(home, "log", "ssp.log"))
			t.Logf("%s\n%s", said.String(), logged)
		}
	})
	i.wait(t)
	return i
}

func free(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// wait returns once the server answers.
func (i *IdP) wait(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(i.URL, "http://"))
		if err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatal("SimpleSAMLphp did not start")
}

// configure writes what the server reads. PHP files are made of JSON, so that nothing
// has to be quoted.
func (i *IdP) configure(t testing.TB, home string) {
	t.Helper()
	for _, sub := range []string{"config", "metadata", "cert", "log", "data", "tmp", "sessions"} {
		if err := os.MkdirAll(filepath.Join(home, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	k := key(t, 2)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	c := Certificate(t, k, time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0))
	php := func(variable string, value any) string {
		raw, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("<?php\n%s = json_decode(base64_decode('%s'), true);\n", variable, base64.StdEncoding.EncodeToString(raw))
	}
	const attribute = "saml:AttributeNameID"
	user := func(login, name string, groups ...string) map[string][]string {
		return map[string][]string{"uid": {login}, "mail": {login + "@acme.test"}, "displayName": {name}, "groups": groups}
	}
	files := map[string]string{
		"cert/idp.key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"cert/idp.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})),
		"config/config.php": php("$config", map[string]any{ //nolint:gosec // no secrets, for a test
			"baseurlpath": i.URL + "/", "certdir": home + "/cert/", "loggingdir": home + "/log/", "datadir": home + "/data/", "tempdir": home + "/tmp",
			"technicalcontact_email": "na@example.test", "timezone": "UTC", "secretsalt": "a test has no secrets", "auth.adminpassword": "nobody",
			"showerrors": true, "errorreporting": false, "logging.level": 6, "logging.handler": "file", "logging.logfile": "ssp.log",
			"enable.saml20-idp": true, "module.enable": map[string]bool{"exampleauth": true, "core": true, "saml": true},
			"session.duration": 3600, "session.cookie.name": "SSPID", "session.cookie.secure": false, "session.cookie.samesite": "Lax",
			"session.phpsession.cookiename": "SSPPHP", "session.phpsession.savepath": home + "/sessions", "session.phpsession.httponly": true,
			"store.type": "phpsession", "language.default": "en", "language.available": []string{"en"},
			"metadata.sources":    []map[string]string{{"type": "flatfile", "directory": home + "/metadata"}},
			"trusted.url.domains": []string{}, "authproc.idp": map[string]any{}, "authproc.sp": map[string]any{},
		}),
		"config/authsources.php": php("$config", map[string]any{"users": map[string]any{
			"0":              "exampleauth:UserPass",
			"alice:alice-pw": user("alice", "Alice A", "platform", "admins"),
			"bob:bob-pw":     user("bob", "Bob B", "dev"),
		}}),
		"metadata/saml20-idp-hosted.php": php("$metadata", map[string]any{i.EntityID: map[string]any{
			"host": "__DEFAULT__", "privatekey": "idp.key", "certificate": "idp.crt", "auth": "users",
			"signature.algorithm": "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", "NameIDFormat": Persistent, "redirect.validate": true,
			"authproc": map[string]any{
				"3": map[string]string{"class": attribute, "attribute": "uid", "Format": Persistent},
				"4": map[string]string{"class": attribute, "attribute": "mail", "Format": EmailAddress},
				"5": map[string]string{"class": "saml:TransientNameID"},
			},
		}}),
		"metadata/saml20-sp-remote.php": "<?php\nforeach (glob('" + home + "/data/sp-*.json') as $f) { $s = json_decode(file_get_contents($f), true); $metadata[$s['entityid']] = $s; }\n",
		// The class is loaded with the other mode in it while the file gcm is there.
		"gcm.php": "<?php\nif (file_exists('" + home + "/data/gcm')) { require '" + folder + "/lib/_autoload.php'; " +
			"eval(str_replace('new XMLSecurityKey(XMLSecurityKey::AES128_CBC)', 'new XMLSecurityKey(XMLSecurityKey::AES128_GCM)', " +
			"substr(file_get_contents('" + folder + "/vendor/simplesamlphp/saml2/src/SAML2/EncryptedAssertion.php'), 5))); }\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Register makes a service provider known, or known otherwise.
func (i *IdP) Register(t testing.TB, sp SP) {
	t.Helper()
	if sp.NameIDFormat == "" {
		sp.NameIDFormat = Persistent
	}
	var keys []map[string]any
	for _, k := range []struct {
		certificate         *x509.Certificate
		signing, encryption bool
	}{{sp.Signing, true, false}, {sp.Encryption, false, true}} {
		if k.certificate != nil {
			keys = append(keys, map[string]any{
				"type": "X509Certificate", "signing": k.signing, "encryption": k.encryption,
				"X509Certificate": base64.StdEncoding.EncodeToString(k.certificate.Raw),
			})
		}
	}
	raw, err := json.Marshal(map[string]any{
		"entityid": sp.EntityID, "keys": keys, "NameIDFormat": sp.NameIDFormat,
		"AssertionConsumerService": []map[string]any{{"Binding": POST, "Location": sp.ACS, "index": 0}},
		"validate.authnrequest":    true, "saml20.sign.response": sp.SignResponse, "saml20.sign.assertion": sp.SignAssertion,
		"assertion.encryption": sp.Encrypt,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(i.data, "sp-1.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(i.data, "gcm")
	if sp.GCM {
		err = os.WriteFile(mark, nil, 0o600)
	} else if err = os.Remove(mark); os.IsNotExist(err) {
		err = nil
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Descriptor returns the metadata of the identity provider.
func (i *IdP) Descriptor(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, i.URL+"/saml2/idp/metadata.php", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := (&http.Client{}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	raw, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("metadata: %v, %d: %.500s", err, answer.StatusCode, raw)
	}
	return string(raw)
}
