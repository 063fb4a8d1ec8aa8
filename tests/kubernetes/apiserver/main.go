// Command apiserver runs a real Kubernetes API server on loopback, for tests: etcd and kube-apiserver in one process.
//
// In: a directory that keeps everything (data, keys, kubeconfig), so that a second run continues where the first one
// ended. Out: one line `ready <path of the kubeconfig>` on standard output once the server is ready. SIGTERM and SIGINT
// end it. SIGUSR1 compacts etcd to its newest revision and prints `compacted <revision>`.
//
// Not here: controllers, scheduler, kubelet. No Deployment gets Pods, no namespace a default ServiceAccount, and
// EndpointSlices are whatever a test writes.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// startTimeout is generous: a busy machine with two cores needs a while.
const startTimeout = 2 * time.Minute

func main() {
	directory := flag.String("directory", "", "where data, keys and the kubeconfig are kept")
	port := flag.Int("port", 0, "port of the API server; 0 keeps the one of the last run, or finds one that is free")
	flag.Parse()
	if err := run(*directory, *port, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "apiserver:", err)
		os.Exit(1)
	}
}

func run(directory string, port int, extraFlags []string) error {
	if directory == "" {
		return errors.New("--directory is missing")
	}
	directory, err := filepath.Abs(directory)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	if port, err = keptPort(directory, port); err != nil {
		return err
	}
	etcd, endpoint, err := startEtcd(directory)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer etcd.Close()

	keyPath, err := kept(directory, "service-account.key", newSigningKey)
	if err != nil {
		return err
	}
	token, err := adminToken(directory)
	if err != nil {
		return err
	}

	server := app.NewAPIServerCommand()
	server.SilenceUsage = true
	server.SilenceErrors = true
	server.SetArgs(append([]string{
		"--etcd-servers=" + endpoint,
		"--etcd-compaction-interval=0",
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none",
		"--secure-port=" + strconv.Itoa(port),
		"--cert-dir=" + filepath.Join(directory, "certificates"),
		"--token-auth-file=" + filepath.Join(directory, "tokens.csv"),
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-signing-key-file=" + keyPath,
		"--service-account-key-file=" + keyPath,
		"--service-cluster-ip-range=10.96.0.0/16",
		// No controller creates them here, and only Pods would need them.
		"--disable-admission-plugins=ServiceAccount",
		"--profiling=false",
		"-v=0",
	}, extraFlags...))

	ended := make(chan error, 1)
	go func() { ended <- server.Execute() }()

	ready := make(chan error, 1)
	base := "https://127.0.0.1:" + strconv.Itoa(port)
	go func() { ready <- awaitReady(directory, base, token) }()
	select {
	case err := <-ended:
		return fmt.Errorf("kube-apiserver ended before it was ready: %w", err)
	case err := <-ready:
		if err != nil {
			return err
		}
	}
	kubeconfig, err := writeKubeconfig(directory, base, token)
	if err != nil {
		return err
	}
	fmt.Println("ready", kubeconfig)

	compact := make(chan os.Signal, 1)
	signal.Notify(compact, syscall.SIGUSR1)
	for {
		select {
		case err := <-ended: // kube-apiserver handles SIGTERM and SIGINT itself.
			return err
		case <-compact:
			revision := etcd.Server.KV().Rev()
			if _, err := etcd.Server.Compact(context.Background(), &pb.CompactionRequest{Revision: revision, Physical: true}); err != nil {
				fmt.Fprintln(os.Stderr, "apiserver: compaction:", err)
				continue
			}
			fmt.Println("compacted", revision)
		}
	}
}

func startEtcd(directory string) (*embed.Etcd, string, error) {
	config := embed.NewConfig()
	config.Dir = filepath.Join(directory, "etcd")
	config.LogLevel = "error"
	config.UnsafeNoFsync = true // Nobody's data: speed counts.
	client, err := freeURL()
	if err != nil {
		return nil, "", err
	}
	peer, err := freeURL()
	if err != nil {
		return nil, "", err
	}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return nil, "", err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return etcd, client.String(), nil
	case err := <-etcd.Err():
		return nil, "", err
	case <-time.After(startTimeout):
		etcd.Close()
		return nil, "", errors.New("not ready in time")
	}
}

func freeURL() (url.URL, error) {
	port, err := freePort()
	return url.URL{Scheme: "http", Host: "127.0.0.1:" + strconv.Itoa(port)}, err
}

// freePort is a port at 127.0.0.1 that nobody has, and that nobody else who asks in this manner gets before this process
// has ended. It stands below those that the kernel gives to outgoing connections and to listeners that ask for any, for it
// is listened on later. A UDP socket with the number less holdBelow keeps it from others, as in tests/free-ports.ts.
func freePort() (int, error) {
	for try := 0; try < 200; try++ {
		port := firstPort + mathrand.IntN(lastPort-firstPort+1)
		hold, err := net.ListenUDP("udp4", &net.UDPAddr{IP: loopback, Port: port - holdBelow})
		if err != nil {
			continue
		}
		listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: loopback, Port: port})
		if err != nil {
			hold.Close()
			continue
		}
		held = append(held, hold)
		return port, listener.Close()
	}
	return 0, fmt.Errorf("no free port from %d to %d", firstPort, lastPort)
}

const (
	firstPort = 15_000
	lastPort  = 24_999
	holdBelow = 10_000
)

var (
	loopback = net.IPv4(127, 0, 0, 1)
	held     []*net.UDPConn
)

// keptPort is the same after a restart, so that clients find the server again.
func keptPort(directory string, wanted int) (int, error) {
	path, err := kept(directory, "port", func() ([]byte, error) {
		port := wanted
		if port == 0 {
			free, err := freePort()
			if err != nil {
				return nil, err
			}
			port = free
		}
		return []byte(strconv.Itoa(port)), nil
	})
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(text))
}

// kept is the path of a file that the first run makes and later ones find.
func kept(directory, name string, make func() ([]byte, error)) (string, error) {
	path := filepath.Join(directory, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	content, err := make()
	if err != nil {
		return "", err
	}
	return path, os.WriteFile(path, content, 0o600)
}

func newSigningKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// adminToken is of a user who may do everything.
func adminToken(directory string) (string, error) {
	path, err := kept(directory, "tokens.csv", func() ([]byte, error) {
		random := make([]byte, 16)
		if _, err := rand.Read(random); err != nil {
			return nil, err
		}
		return []byte(hex.EncodeToString(random) + ",admin,admin,system:masters\n"), nil
	})
	if err != nil {
		return "", err
	}
	line, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	token, _, _ := strings.Cut(string(line), ",")
	return token, nil
}

func certificatePath(directory string) string {
	return filepath.Join(directory, "certificates", "apiserver.crt")
}

// awaitReady asks /readyz until every post-start hook has ended, RBAC's own roles among them.
func awaitReady(directory, base, token string) error {
	deadline := time.Now().Add(startTimeout)
	for time.Now().Before(deadline) {
		if isReady(directory, base, token) {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("kube-apiserver was not ready in time")
}

func isReady(directory, base, token string) bool {
	certificate, err := os.ReadFile(certificatePath(directory))
	if err != nil {
		return false
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	client := http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true},
		Timeout:   5 * time.Second,
	}
	request, err := http.NewRequest(http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return false
	}
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := client.Do(request)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

func writeKubeconfig(directory, base, token string) (string, error) {
	certificate, err := os.ReadFile(certificatePath(directory))
	if err != nil {
		return "", err
	}
	path := filepath.Join(directory, "kubeconfig")
	return path, os.WriteFile(path, []byte(fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: test
contexts:
  - name: test
    context: {cluster: test, user: admin}
clusters:
  - name: test
    cluster:
      server: %s
      certificate-authority-data: %s
users:
  - name: admin
    user: {token: %s}
`, base, base64.StdEncoding.EncodeToString(certificate), token)), 0o600)
}
