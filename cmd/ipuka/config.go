package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/ipuka/ipuka/internal/mail"
)

// config is everything an operator can set, after checking.
type config struct {
	dataDir        string
	listen         string
	consoleListen  string
	publicURL      *url.URL // of the API, nil when not configured
	consoleURL     *url.URL // nil: derived, see addresses
	tlsCertificate string
	tlsKey         string
	database       string // empty: SQLite in the data folder
	trustedProxies []netip.Prefix
	logLevel       slog.Level
	logFormat      string
	drainDelay     time.Duration
	drainTimeout   time.Duration

	connectors        []connectorConfig
	signUp            bool
	passwordLogin     bool
	openOrganizations bool
	smtp              mail.SMTP // none without a Host
	mailFrom          string
	outboundAllow     []netip.Prefix
}

func defaults() *config {
	return &config{
		dataDir: "./ipuka-data", listen: "127.0.0.1:8080", consoleListen: "127.0.0.1:3000",
		logFormat: "text", drainTimeout: 30 * time.Second, passwordLogin: true,
		smtp: mail.SMTP{TLS: "starttls"},
	}
}

// setting is one thing to configure: key in the file, --key-with-dashes as a flag,
// IPUKA_KEY in the environment.
type setting struct {
	key   string
	usage string
	set   func(c *config, value string) error
}

func (s setting) flag() string     { return strings.ReplaceAll(s.key, "_", "-") }
func (s setting) variable() string { return "IPUKA_" + strings.ToUpper(s.key) }

var settings = []setting{
	{"data_dir", "folder for the database, the keys and the checkpoints (default ./ipuka-data)", func(c *config, v string) error {
		c.dataDir = v
		return notEmpty(v)
	}},
	{"listen", "address of the API and the console (default 127.0.0.1:8080)", func(c *config, v string) error {
		c.listen = v
		return hostPort(v)
	}},
	{"console_listen", "second address of the console, where the CLI looks for that of localhost:8080; empty for none (default 127.0.0.1:3000 without public_url)", func(c *config, v string) error {
		c.consoleListen = v
		if v == "" {
			return nil
		}
		if err := hostPort(v); err != nil {
			return err
		}
		if !loopback(v) {
			return errors.New("only a loopback address, such as 127.0.0.1:3000")
		}
		return nil
	}},
	{"public_url", "URL under which clients reach the API, such as https://api.example.com", func(c *config, v string) (err error) {
		c.publicURL, err = baseURL(v)
		return err
	}},
	{"console_url", "URL under which browsers reach the console (default: app. for a public_url of api., else the public_url)", func(c *config, v string) (err error) {
		c.consoleURL, err = baseURL(v)
		return err
	}},
	{"tls_certificate", "PEM file with the certificate chain of listen", func(c *config, v string) error {
		c.tlsCertificate = v
		return notEmpty(v)
	}},
	{"tls_key", "PEM file with the private key of tls_certificate", func(c *config, v string) error {
		c.tlsKey = v
		return notEmpty(v)
	}},
	{"database", "postgres:// URL (default: SQLite in the data folder)", func(c *config, v string) error {
		return c.setDatabase(v)
	}},
	{"database_file", "file that holds the database URL, for one with a password", func(c *config, v string) error {
		text, err := os.ReadFile(v)
		if err != nil {
			return err
		}
		return c.setDatabase(strings.TrimSpace(string(text)))
	}},
	{"trusted_proxies", "comma-separated networks whose X-Forwarded-For is believed, such as 10.0.0.0/8", func(c *config, v string) (err error) {
		c.trustedProxies, err = networks(v)
		return err
	}},
	{"sign_up", "true to let anybody with an e-mail address make an account (default false)", func(c *config, v string) (err error) {
		c.signUp, err = yesNo(v)
		return err
	}},
	{"password_login", "false to let nobody sign in with a password (default true)", func(c *config, v string) (err error) {
		c.passwordLogin, err = yesNo(v)
		return err
	}},
	{"organization_creation", "who makes organizations: administrators or everyone (default administrators)", func(c *config, v string) error {
		c.openOrganizations = v == "everyone"
		if v != "everyone" && v != "administrators" {
			return errors.New("administrators or everyone")
		}
		return nil
	}},
	{"smtp_address", "mail server, such as smtp.example.com:587 (default: mails are shown to the site administrators)", func(c *config, v string) error {
		if err := hostPort(v); err != nil {
			return err
		}
		host, port, _ := net.SplitHostPort(v)
		n, err := strconv.Atoi(port)
		c.smtp.Host, c.smtp.Port = host, n
		return err
	}},
	{"smtp_tls", "how the mail server is spoken to: starttls, implicit, or none on this machine (default starttls)", func(c *config, v string) error {
		c.smtp.TLS = v
		if !slices.Contains([]string{"starttls", "implicit", "none"}, v) {
			return errors.New("starttls, implicit or none")
		}
		return nil
	}},
	{"smtp_username", "user name at the mail server", func(c *config, v string) error {
		c.smtp.Username = v
		return notEmpty(v)
	}},
	{"smtp_password_file", "file that holds the password of smtp_username", func(c *config, v string) error {
		text, err := os.ReadFile(v)
		c.smtp.Password = strings.TrimSpace(string(text))
		return err
	}},
	{"mail_from", "address that mails come from, such as Ipuka <ipuka@example.com>", func(c *config, v string) error {
		c.mailFrom = v
		return notEmpty(v)
	}},
	{"outbound_allow", "comma-separated private networks that addresses entered by organization administrators may lead to", func(c *config, v string) (err error) {
		c.outboundAllow, err = networks(v)
		return err
	}},
	{"log_level", "debug, info, warn or error (default info)", func(c *config, v string) error {
		return c.logLevel.UnmarshalText([]byte(v))
	}},
	{"log_format", "text or json (default text)", func(c *config, v string) error {
		c.logFormat = v
		if v != "text" && v != "json" {
			return errors.New("text or json")
		}
		return nil
	}},
	{"drain_delay", "how long to go on accepting after /readyz has turned false, for load balancers (default 0s)", func(c *config, v string) (err error) {
		c.drainDelay, err = duration(v)
		return err
	}},
	{"drain_timeout", "how long requests under way may take to end after that (default 30s)", func(c *config, v string) (err error) {
		c.drainTimeout, err = duration(v)
		return err
	}},
}

func (c *config) setDatabase(v string) error {
	scheme, _, _ := strings.Cut(v, ":")
	if scheme != "postgres" && scheme != "postgresql" {
		return errors.New("a postgres:// URL") // the value may hold a password and is not repeated
	}
	c.database = v
	return nil
}

func yesNo(v string) (bool, error) {
	if v != "true" && v != "false" {
		return false, errors.New("true or false")
	}
	return v == "true", nil
}

func networks(v string) (list []netip.Prefix, err error) {
	for part := range strings.SplitSeq(v, ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("%q is not a network such as 10.0.0.0/8", part)
		}
		list = append(list, prefix)
	}
	return list, nil
}

func notEmpty(v string) error {
	if v == "" {
		return errors.New("must not be empty")
	}
	return nil
}

func hostPort(v string) error {
	if _, port, err := net.SplitHostPort(v); err != nil || port == "" {
		return fmt.Errorf("%q is not an address such as 127.0.0.1:8080", v)
	}
	return nil
}

func duration(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration such as 30s", v)
	}
	return d, nil
}

func baseURL(v string) (*url.URL, error) {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, errors.New("an http:// or https:// URL without a path, such as https://api.example.com")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// loopback reports whether the address can be reached from this machine only.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// load reads the configuration: defaults, then the file, then the environment, then
// flags. Every problem is reported, a line each, and none repeats a secret.
func load(file string, environment []string, flags map[string]string) (*config, error) {
	c := defaults()
	var problems []error
	given := map[string]bool{}
	apply := func(source string, s setting, value string) {
		given[s.key] = true
		if err := s.set(c, value); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", source, err))
		}
	}
	if file == "" {
		file = lookup(environment, "IPUKA_CONFIG")
	}
	values, blocks, err := readFile(file)
	if err != nil {
		problems = append(problems, err)
	}
	if blocks != nil {
		var wrong []error
		c.connectors, wrong = parseConnectors(blocks)
		for _, err := range wrong {
			problems = append(problems, fmt.Errorf("%s: %w", filepath.Base(file), err))
		}
	}
	for _, s := range settings {
		if value, ok := values[s.key]; ok {
			apply(filepath.Base(file)+": "+s.key, s, value)
		}
		delete(values, s.key)
	}
	for key := range values {
		problems = append(problems, fmt.Errorf("%s: %s is not a setting, `ipuka serve --help` lists them", filepath.Base(file), key))
	}
	for _, pair := range environment {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "IPUKA_") || name == "IPUKA_CONFIG" || strings.HasPrefix(name, "IPUKA_TEST_") {
			continue
		}
		if i := slices.IndexFunc(settings, func(s setting) bool { return s.variable() == name }); i >= 0 {
			apply(name, settings[i], value)
		} else {
			problems = append(problems, fmt.Errorf("%s is not a setting, `ipuka serve --help` lists them", name))
		}
	}
	for _, s := range settings {
		if value, ok := flags[s.key]; ok {
			apply("--"+s.flag(), s, value)
		}
	}
	problems = append(problems, c.check(given)...)
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return c, errors.Join(problems...)
}

// check looks at settings that depend on each other.
func (c *config) check(given map[string]bool) []error {
	var problems []error
	if (c.tlsCertificate == "") != (c.tlsKey == "") {
		problems = append(problems, errors.New("tls_certificate and tls_key go together, set both or neither"))
	}
	behindTLS := c.tlsCertificate != "" || c.publicURL != nil && c.publicURL.Scheme == "https"
	if !loopback(c.listen) && !behindTLS {
		problems = append(problems, fmt.Errorf("listen: %s can be reached from other machines, so it needs tls_certificate and tls_key, or an https public_url of a proxy in front", c.listen))
	}
	if host, _, _ := net.SplitHostPort(c.listen); c.publicURL == nil && (host == "" || host == "0.0.0.0" || host == "::") {
		problems = append(problems, errors.New("public_url: set it to the URL that clients use, listen names no machine"))
	}
	if c.publicURL != nil && c.publicURL.Scheme == "http" && !loopback(net.JoinHostPort(c.publicURL.Hostname(), "80")) {
		problems = append(problems, errors.New("public_url: tokens and secrets would cross the network unprotected, use https"))
	}
	if given["console_url"] && c.publicURL == nil {
		problems = append(problems, errors.New("console_url: set public_url too"))
	}
	if given["database"] && given["database_file"] {
		problems = append(problems, errors.New("database and database_file: set one of them"))
	}
	if (c.smtp.Host == "") != (c.mailFrom == "") {
		problems = append(problems, errors.New("smtp_address and mail_from go together, set both or neither"))
	}
	if (c.smtp.Username == "") != (c.smtp.Password == "") {
		problems = append(problems, errors.New("smtp_username and smtp_password_file go together, set both or neither"))
	}
	if (c.publicURL != nil || c.tlsCertificate != "") && !given["console_listen"] {
		c.consoleListen = ""
	}
	return problems
}

// readFile returns the settings of a YAML file: scalars, and lists of scalars
// joined with commas; and, as they are, its connectors.
func readFile(path string) (values map[string]string, blocks any, err error) {
	if path == "" {
		return nil, nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the configuration: %w", err)
	}
	var document map[string]any
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, nil, fmt.Errorf("%s is not YAML: %s", filepath.Base(path), strings.SplitN(yaml.FormatError(err, false, false), "\n", 2)[0])
	}
	blocks = document["connectors"]
	delete(document, "connectors")
	values = make(map[string]string, len(document))
	for key, value := range document {
		switch value := value.(type) {
		case []any:
			parts := make([]string, len(value))
			for i, part := range value {
				parts[i] = fmt.Sprint(part)
			}
			values[key] = strings.Join(parts, ",")
		case map[string]any:
			return nil, nil, fmt.Errorf("%s: %s takes one value, not a block of them", filepath.Base(path), key)
		case nil:
			values[key] = ""
		default:
			values[key] = fmt.Sprint(value)
		}
	}
	return values, blocks, nil
}

func lookup(environment []string, name string) string {
	for _, pair := range environment {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

// addresses are the URLs that people use, derived from the configuration.
type addresses struct {
	api, console string
}

func (c *config) addresses() addresses {
	api := c.publicURL
	if api == nil {
		scheme := "http"
		if c.tlsCertificate != "" {
			scheme = "https"
		}
		host, port, _ := net.SplitHostPort(c.listen)
		if loopback(c.listen) {
			host = "localhost" // what the CLI knows how to find the console of
		}
		api = &url.URL{Scheme: scheme, Host: net.JoinHostPort(host, port)}
	}
	console := c.consoleURL
	switch {
	case console != nil:
	case strings.HasPrefix(api.Host, "api."):
		console = &url.URL{Scheme: api.Scheme, Host: "app." + strings.TrimPrefix(api.Host, "api.")}
	case api.Host == "localhost:8080" && c.consoleListen != "":
		_, port, _ := net.SplitHostPort(c.consoleListen)
		console = &url.URL{Scheme: api.Scheme, Host: "localhost:" + port}
	default:
		console = api
	}
	return addresses{api: api.String(), console: console.String()}
}

// loginCommand is what an engineer types. The CLI finds the console of api.X at
// app.X and that of localhost:8080 at localhost:3000; elsewhere it must be told.
func (a addresses) loginCommand() string {
	api, _ := url.Parse(a.api)
	console, _ := url.Parse(a.console)
	guessed := ""
	if rest, ok := strings.CutPrefix(api.Host, "api."); ok {
		guessed = "app." + rest
	} else if api.Host == "localhost:8080" {
		guessed = "localhost:3000"
	}
	if guessed == console.Host {
		return "pulumi login " + a.api
	}
	return "PULUMI_CONSOLE_DOMAIN=" + console.Host + " pulumi login " + a.api
}

// hosts are the names that requests may be addressed to. Any other Host header is
// refused: a page that had its own name point at this machine could otherwise talk
// to the console (DNS rebinding).
func (c *config) hosts() func(host string) bool {
	allowed := []string{"localhost", "127.0.0.1", "::1"}
	for _, u := range []*url.URL{c.publicURL, c.consoleURL} {
		if u != nil {
			allowed = append(allowed, u.Hostname())
		}
	}
	console, _ := url.Parse(c.addresses().console)
	allowed = append(allowed, console.Hostname())
	if host, _, _ := net.SplitHostPort(c.listen); host != "" {
		allowed = append(allowed, host)
	}
	return func(host string) bool {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		return slices.Contains(allowed, strings.ToLower(strings.Trim(host, "[]")))
	}
}
