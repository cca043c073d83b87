complete -c monoceros -s c -l config -d 'The settings file: a path that ends in .py, file:PATH, or python:MODULE [./gunicorn.conf.py]' -r
complete -c monoceros -l python -d 'The Python interpreter that runs the settings file and the application, 3.9 or later' -r -F
complete -c monoceros -s b -l bind -d 'Where to listen: HOST:PORT, [IPV6]:PORT, :PORT for every IPv4 address, unix:PATH, or fd://N for a socket that is already open [127.0.0.1:8000]' -r
complete -c monoceros -l backlog -d 'How many connections the kernel keeps that have not been accepted yet [2048]' -r
complete -c monoceros -s w -l workers -d 'Worker processes that run the application [1]' -r
complete -c monoceros -s k -l worker-class -d 'How a worker runs requests: sync (one at a time on its main thread) or gthread (a pool of threads threads) [sync]' -r
complete -c monoceros -l threads -d 'Threads of each worker that run requests [1]' -r
complete -c monoceros -l worker-connections -d 'How many requests an event-loop worker runs at once; sync and gthread workers do not look at it [1000]' -r
complete -c monoceros -l max-requests -d 'Replace a worker after this many requests, against leaks; 0 is never [0]' -r
complete -c monoceros -l max-requests-jitter -d 'A random number from 0 to this is added to each worker\'s max_requests, so that they are not replaced all at once [0]' -r
complete -c monoceros -s t -l timeout -d 'A request that runs longer than this is answered with 504, its Python stack is logged, and its worker is replaced; 0 lets requests run for ever [30]' -r
complete -c monoceros -l graceful-timeout -d 'How long requests may go on after their worker was told to end, at a reload, a stop or a replacement; then it is killed [30]' -r
complete -c monoceros -l boot-timeout -d 'How long a worker, or with preload_app the process that forks them, may take to load the application; then its Python stacks are logged and it is killed [120]' -r
complete -c monoceros -l keep-alive -l keepalive-timeout -d 'How long an idle connection is kept for the client\'s next request; 0 closes after every response [75]' -r
complete -c monoceros -l max-worker-rss -d 'Replace a worker whose resident memory passes this, once its requests are done; 0 is never [0]' -r
complete -c monoceros -l websocket-max-message-size -d 'Bytes of a message that an ASGI application gets by WebSocket [16777216]' -r
complete -c monoceros -l queue-size -d 'How many complete requests may wait for a free worker [2048]' -r
complete -c monoceros -l queue-timeout -d 'How long a request may wait for a free worker; then it is answered with 503 and Retry-After [30]' -r
complete -c monoceros -l limit-request-line -d 'Bytes of the request line: method, target and version [4094]' -r
complete -c monoceros -l limit-request-fields -d 'Header fields of a request; more are answered with 431 [100]' -r
complete -c monoceros -l limit-request-field_size -d 'Bytes of one header field, name and value [8190]' -r
complete -c monoceros -l limit-request-head -d 'Bytes of the request line and all header fields together; more are answered with 431 [64k]' -r
complete -c monoceros -l client-max-body-size -d 'Bytes of a request\'s body; a larger one is answered with 413 before the application sees it [1m]' -r
complete -c monoceros -l edge-threads -d 'Event loops that serve the client connections; auto is one per core [auto]' -r
complete -c monoceros -l edge-connections -d 'Client connections of all event loops together; the limit of open files is raised to fit [10000]' -r
complete -c monoceros -l client-header-timeout -d 'How long a client may take for the whole head of a request; then 408 [60]' -r
complete -c monoceros -l client-body-timeout -d 'How long a client may take between two pieces of a request\'s body; then 408 [60]' -r
complete -c monoceros -l send-timeout -d 'How long a client may take between two pieces of a response; then the connection is closed [60]' -r
complete -c monoceros -l keepalive-requests -d 'Requests on one connection; then it is closed, which gives its memory back [1000]' -r
complete -c monoceros -l lingering-timeout -d 'After an error, how long what the client still sends is thrown away before the connection is closed, so that it can read the answer [5]' -r
complete -c monoceros -l server-tokens -d 'Send Server: monoceros in responses without a Server field of the application\'s own [on]' -r -f -a "on\t''
off\t''"
complete -c monoceros -l client-body-buffer-size -d 'Bytes of a request\'s body that are held in memory; what is larger goes to a temporary file [16k]' -r
complete -c monoceros -l response-buffer-size -d 'Bytes of a response that are held in memory for a slow client; what is larger goes to a temporary file [64k]' -r
complete -c monoceros -l response-max-temp-file-size -d 'Bytes of one response in a temporary file; past it the worker is slowed to the client\'s pace [1024m]' -r
complete -c monoceros -l max-temp-space -d 'Bytes of all temporary files together [4g]' -r
complete -c monoceros -l static -d 'Serve the files of a directory below a URL prefix without the application, as --static /static/=./staticfiles' -r
complete -c monoceros -l static-symlinks -d 'Symbolic links in a served directory: followed while they stay inside it (beneath), wherever they lead (follow), or never (deny) [beneath]' -r -f -a "beneath\t''
follow\t''
deny\t''"
complete -c monoceros -l index -d 'File names that are tried, in this order, for a URL that ends in / [index.html]' -r
complete -c monoceros -l accel -d 'Where X-Accel-Redirect and X-Sendfile of the application may point, as --accel /internal/=/srv/files: a private URL prefix and the directory behind it' -r
complete -c monoceros -l compress -d 'Compress responses with the first of these codings that the client likes best; off compresses nothing, on is the default [zstd,br,gzip]' -r
complete -c monoceros -l compress-types -d 'Media types of responses that are compressed; text/* stands for all of a kind, * for all' -r
complete -c monoceros -l compress-min-length -d 'Responses shorter than this many bytes are not compressed [256]' -r
complete -c monoceros -l compress-level -d 'How hard each coding tries: zstd 1 to 19, br 0 to 11, gzip 1 to 9 [zstd=3,br=4,gzip=5]' -r
complete -c monoceros -l reload-engine -d 'How changes are found: poll looks at every file once a second, and auto is the same [auto]' -r -f -a "auto\t''
poll\t''"
complete -c monoceros -l reload-extra-file -d 'More files that reload watches: paths, or patterns with *, ?, […]' -r
complete -c monoceros -l reload-templates -d 'Let reload watch templates too: patterns below the working directory with commas, or on for **/templates/** [off]' -r
complete -c monoceros -l forwarded-allow-ips -d 'Addresses and networks of proxies whose X-Forwarded-* fields are believed, with commas; * believes everybody [127.0.0.1,::1]' -r
complete -c monoceros -l forwarder-headers -d 'Header fields with an underscore in their name that pass when a trusted proxy (forwarded_allow_ips) sends them [SCRIPT_NAME,PATH_INFO]' -r
complete -c monoceros -l header-map -d 'What happens to header fields with an underscore in their name, which an application could not tell from their twins with a dash: left out (drop), answered with 400 (refuse), or passed on (dangerous) [drop]' -r -f -a "drop\t''
refuse\t''
dangerous\t''"
complete -c monoceros -l root-path -d 'The URL prefix that the application is mounted under, as /shop; it becomes SCRIPT_NAME and is taken off the front of PATH_INFO' -r
complete -c monoceros -l chdir -d 'The working directory: the application is imported from here, and relative paths of other settings start here [.]' -r -F
complete -c monoceros -s e -l env -d 'A variable for the application\'s environment, as -e DEBUG=0' -r
complete -c monoceros -s p -l pid -d 'Write the master\'s process id to this file, and remove it at the end' -r -F
complete -c monoceros -l worker-tmp-dir -d 'The directory of gunicorn\'s heartbeat files' -r -F
complete -c monoceros -s u -l user -d 'The user, by name or number, that edge and workers run as' -r
complete -c monoceros -s g -l group -d 'The group, by name or number, that edge and workers run as' -r
complete -c monoceros -s m -l umask -d 'Permission bits that are taken away from socket files and files that workers make, in octal, as 0o027 or 027 [0]' -r
complete -c monoceros -l pythonpath -d 'Directories that are put in front of Python\'s search path, with commas; the last one comes first' -r
complete -c monoceros -l access-logfile -d 'Where one line per request goes: a file, or - for standard output' -r
complete -c monoceros -l access-logformat -d 'The line of the access log, with gunicorn\'s atoms' -r
complete -c monoceros -l error-logfile -l log-file -d 'Where messages go: a file, or - for standard error [-]' -r
complete -c monoceros -l log-level -d 'The least severity of messages that are logged [info]' -r -f -a "debug\t''
info\t''
warning\t''
error\t''
critical\t''"
complete -c monoceros -s n -l name -d 'The name of this instance in ps and top' -r
complete -c monoceros -l keyfile -d 'The private key; without it, it is in the file of the certificate' -r -F
complete -c monoceros -l certfile -d 'The certificate and those that lead to the root: all listeners speak TLS' -r -F
complete -c monoceros -l ssl-version -d 'Ignored by gunicorn as well [2]' -r
complete -c monoceros -l cert-reqs -d 'Whether clients show a certificate: 0 no, 1 they may, 2 they must [0]' -r
complete -c monoceros -l ca-certs -d 'Authorities of clients\' certificates' -r -F
complete -c monoceros -l ciphers -d 'Cipher suites of TLS 1.2, in OpenSSL\'s language' -r
complete -c monoceros -l domain -d 'A name that this server is reached by' -r
complete -c monoceros -l acme-directory -d 'The directory of the certification authority (ACME, RFC 8555)' -r
complete -c monoceros -l acme-email -d 'Where the authority may write to' -r
complete -c monoceros -l acme-ca-certs -d 'Certificates by which the authority\'s own server is verified, for one of your own; else the system\'s' -r -F
complete -c monoceros -l acme-eab-kid -d 'The identifier of a key by which the authority knows an account already (external account binding)' -r
complete -c monoceros -l acme-eab-hmac -d 'That key, base64url' -r
complete -c monoceros -l acme-dns-hook -d 'A program that puts a TXT record into the DNS, run as PROGRAM present|cleanup RECORD VALUE, without a shell; it returns when the record is there' -r -F
complete -c monoceros -l on-demand-ask -d 'Names that are no domain, but that clients ask for, get certificates of their own in the handshake, once this has said that they may: a URL, of which URL?domain=NAME is got and has to be answered with a status of 200 to 299 (others, redirects too, are a no), or a program, which is run as PROGRAM NAME and has to end with status 0' -r
complete -c monoceros -l on-demand-names -d 'How many names may have such certificates at once; for more, none is ordered before others have expired [1000]' -r
complete -c monoceros -l acme-dir -d 'Where accounts, certificates and keys are kept; instances that share it order once' -r -F
complete -c monoceros -l tls -d 'self, for development: all addresses speak TLS, with a certificate for localhost, this machine\'s name and each domain, signed by an authority of your own [off]' -r -f -a "off\t''
self\t''"
complete -c monoceros -l http-protocols -d 'Versions of HTTP that are offered within TLS: h1, or h2,h1 [h1]' -r
complete -c monoceros -l http2-cleartext -d 'HTTP/2 without TLS, with h2 among http_protocols [off]' -r -f -a "off\t''
prior-knowledge\t''"
complete -c monoceros -l http2-max-concurrent-streams -d 'Requests at once on one HTTP/2 connection [100]' -r
complete -c monoceros -l http2-initial-window-size -d 'Bytes that a client may send on an HTTP/2 stream before it is told to go on [65535]' -r
complete -c monoceros -l http2-max-frame-size -d 'Bytes of an HTTP/2 frame [16384]' -r
complete -c monoceros -l http2-max-header-list-size -d 'Bytes of all header fields of an HTTP/2 request [65536]' -r
complete -c monoceros -s h -l help -d 'Print this help'
complete -c monoceros -s v -l version -d 'Print the version'
complete -c monoceros -l no-sendfile -d 'Whether files are sent with sendfile(2); the flag switches that off'
complete -c monoceros -l reload -d 'For development: restart the workers when a file of an imported module changes'
complete -c monoceros -l check-config -d 'Check all settings and load the application, then exit: 0 when all is well, else 1'
complete -c monoceros -l print-config -d 'Print every setting with its value and where that comes from, check as with check_config, then exit'
complete -c monoceros -l preload -d 'Import the application once, before the workers are forked: they start faster and share memory'
complete -c monoceros -l reuse-port -d 'Set SO_REUSEPORT on listening sockets, so that another instance may listen at the same address'
complete -c monoceros -s D -l daemon -d 'Detach from the terminal and run in the background'
complete -c monoceros -l initgroups -d 'Give edge and workers all groups that user is a member of'
complete -c monoceros -l capture-output -d 'Send what the application prints to the error log'
complete -c monoceros -s R -l enable-stdio-inheritance -d 'With daemon: keep standard output and error instead of closing them'
complete -c monoceros -l disable-redirect-access-to-syslog -d 'Keep the access log out of syslog'
complete -c monoceros -l suppress-ragged-eofs -d 'Take a connection that ends without TLS\'s farewell for ended'
complete -c monoceros -l do-handshake-on-connect -d 'Do the TLS handshake at once'
complete -c monoceros -l no-control-socket -d 'Make no control socket'
complete -c monoceros -n __fish_use_subcommand -a check -d 'say what is right and what is wrong, and start nothing'
