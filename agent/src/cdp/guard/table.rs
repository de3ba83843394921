//! Every method of Chrome's protocol, and what becomes of it: reviewed with Chromium 156.
//!
//! A test compares it with the description that the installed browser brings: a method that is
//! missing here is refused until someone has thought about it.

use std::{collections::HashMap, sync::LazyLock};

use super::{
    Task,
    rules::{self, Rule},
};
use Class::{Judge, Pass, Refuse};

/// What becomes of a method.
#[derive(Clone, Copy, Debug)]
pub(super) enum Class {
    /// It goes to Chrome as it came: it reaches nothing but the session's own browser.
    Pass,
    /// It depends on its arguments, which may be changed.
    Judge(Task),
    /// It is not carried out.
    Refuse(&'static Rule),
}

/// What becomes of a method; `None` when nobody has reviewed it.
pub(super) fn class(method: &str) -> Option<Class> {
    static BY_NAME: LazyLock<HashMap<String, Class>> = LazyLock::new(|| methods().collect());
    BY_NAME.get(method).copied()
}

/// All methods in the order of their domains.
pub(super) fn methods() -> impl Iterator<Item = (String, Class)> {
    TABLE.iter().flat_map(|(domain, lines)| {
        lines.iter().flat_map(move |(class, names)| {
            names.split_whitespace().map(move |name| (format!("{domain}.{name}"), *class))
        })
    })
}

/// A domain, and its methods by what becomes of them.
type Domain = (&'static str, &'static [(Class, &'static str)]);

#[rustfmt::skip] // one line for each class of a domain, not one for each piece of it
const TABLE: &[Domain] = &[
    ("Accessibility", &[
        (Pass, "\
            disable enable getAXNodeAndAncestors getChildAXNodes getFullAXTree getPartialAXTree \
            getRootAXNode queryAXTree"),
    ]),
    ("Ads", &[
        (Pass, "getAdMetrics getAdScripts"),
    ]),
    ("Animation", &[
        (Pass, "\
            disable enable getCurrentTime getPlaybackRate releaseAnimations resolveAnimation \
            seekAnimations setPaused setPlaybackRate setTiming"),
    ]),
    ("Audits", &[
        (Pass, "checkFormsIssues disable enable getEncodedResponse"),
    ]),
    ("Autofill", &[
        (Pass, "disable enable setAddresses trigger"),
    ]),
    ("BackgroundService", &[
        (Pass, "clearEvents setRecording startObserving stopObserving"),
    ]),
    ("BluetoothEmulation", &[
        (Pass, "\
            addCharacteristic addDescriptor addService disable enable removeCharacteristic \
            removeDescriptor removeService setSimulatedCentralState simulateAdvertisement \
            simulateCharacteristicOperationResponse simulateDescriptorOperationResponse \
            simulateGATTDisconnection simulateGATTOperationResponse \
            simulatePreconnectedPeripheral"),
    ]),
    ("Browser", &[
        (Pass, "\
            addMockCamera cancelDownload close getGlobalPrivacyControl getHistogram \
            getHistograms getVersion getWindowBounds getWindowForTarget grantPermissions \
            resetPermissions setDockTile setGlobalPrivacyControl setPermission"),
        (Judge(Task::Area), "setContentsSize"),
        (Judge(Task::Downloads), "setDownloadBehavior"),
        (Judge(Task::Window), "setWindowBounds"),
        (Refuse(&rules::MACHINE), "getBrowserCommandLine"),
        (Refuse(&rules::PROCESS), "\
            addPrivacySandboxEnrollmentOverride crash crashGpuProcess executeBrowserCommand"),
    ]),
    ("CSS", &[
        (Pass, "\
            addRule collectClassNames createStyleSheet disable enable forcePseudoState \
            forceStartingStyle getAnimatedStylesForNode getBackgroundColors \
            getComputedStyleForNode getEnvironmentVariables getInlineStylesForNode \
            getLayersForNode getLocationForSelector getLonghandProperties \
            getMatchedStylesForNode getMediaQueries getPlatformFontsForNode getStyleSheetText \
            resolveValues setContainerQueryConditionText setContainerQueryText \
            setEffectivePropertyValueForNode setKeyframeKey setLocalFontsEnabled setMediaText \
            setNavigationText setPropertyRulePropertyName setRuleSelector setScopeText \
            setStyleSheetText setStyleTexts setSupportsText startRuleUsageTracking \
            stopRuleUsageTracking takeComputedStyleUpdates takeCoverageDelta \
            trackComputedStyleUpdates trackComputedStyleUpdatesForNode"),
    ]),
    ("CacheStorage", &[
        (Pass, "deleteCache deleteEntry requestCacheNames requestCachedResponse requestEntries"),
    ]),
    ("Cast", &[
        (Refuse(&rules::DEVICES), "\
            disable enable setSinkToUse startDesktopMirroring startTabMirroring stopCasting"),
    ]),
    ("Console", &[
        (Pass, "clearMessages disable enable"),
    ]),
    ("CrashReportContext", &[
        (Pass, "getEntries"),
    ]),
    ("DOM", &[
        (Pass, "\
            clearTextMarkers collectClassNamesFromSubtree copyTo describeNode disable \
            discardSearchResults enable focus forceShowInterest forceShowPopover \
            getAnchorElement getAttributes getBoxModel getContainerForNode getContentQuads \
            getDetachedDomNodes getDocument getElementByRelation getFileInfo \
            getFlattenedDocument getFrameOwner getImplicitAnchorCandidates getNodeForLocation \
            getNodeStackTraces getNodesForSubtreeByStyle getOuterHTML \
            getQueryingDescendantsForContainer getRelayoutBoundary getSearchResults \
            getTopLayerElements hideHighlight highlightNode highlightRect markUndoableState \
            moveTo performSearch pushNodeByPathToFrontend pushNodesByBackendIdsToFrontend \
            querySelector querySelectorAll redo removeAttribute removeNode requestChildNodes \
            requestNode resolveNode scrollIntoViewIfNeeded setAttributeValue setAttributesAsText \
            setInspectedNode setNodeName setNodeStackTracesEnabled setNodeValue setOuterHTML \
            setTextMarker undo"),
        (Judge(Task::Files), "setFileInputFiles"),
    ]),
    ("DOMDebugger", &[
        (Pass, "\
            getEventListeners removeDOMBreakpoint removeEventListenerBreakpoint \
            removeInstrumentationBreakpoint removeXHRBreakpoint setBreakOnCSPViolation \
            setDOMBreakpoint setEventListenerBreakpoint setInstrumentationBreakpoint \
            setXHRBreakpoint"),
    ]),
    ("DOMSnapshot", &[
        (Pass, "captureSnapshot disable enable getSnapshot"),
    ]),
    ("DOMStorage", &[
        (Pass, "clear disable enable getDOMStorageItems removeDOMStorageItem setDOMStorageItem"),
    ]),
    ("Debugger", &[
        (Pass, "\
            continueToLocation disable disassembleWasmModule enable evaluateOnCallFrame \
            getPossibleBreakpoints getScriptSource getStackTrace getWasmBytecode \
            nextWasmDisassemblyChunk pause pauseOnAsyncCall removeBreakpoint restartFrame resume \
            searchInContent setAsyncCallStackDepth setBlackboxExecutionContexts \
            setBlackboxPatterns setBlackboxedRanges setBreakpoint setBreakpointByUrl \
            setBreakpointOnFunctionCall setBreakpointsActive setInstrumentationBreakpoint \
            setPauseOnExceptions setReturnValue setScriptSource setSkipAllPauses \
            setVariableValue stepInto stepOut stepOver"),
    ]),
    ("DeviceAccess", &[
        (Refuse(&rules::DEVICES), "cancelPrompt disable enable selectPrompt"),
    ]),
    ("DeviceOrientation", &[
        (Pass, "clearDeviceOrientationOverride setDeviceOrientationOverride"),
    ]),
    ("DigitalCredentials", &[
        (Pass, "setVirtualWalletBehavior"),
    ]),
    ("Emulation", &[
        (Pass, "\
            canEmulate clearDeviceMetricsOverride clearDevicePostureOverride \
            clearDisplayFeaturesOverride clearGeolocationOverride clearIdleOverride \
            getOverriddenSensorInformation getScreenInfos removeScreen resetPageScaleFactor \
            setAutoDarkModeOverride setAutomationOverride setCPUPerformanceOverride \
            setCPUThrottlingRate setDataSaverOverride setDefaultBackgroundColorOverride \
            setDevicePostureOverride setDisabledImageTypes setDisplayFeaturesOverride \
            setDocumentCookieDisabled setEmitTouchEventsForMouse setEmulatedMedia \
            setEmulatedOSTextScale setEmulatedVisionDeficiency setFocusEmulationEnabled \
            setGeolocationOverride setHardwareConcurrencyOverride setIdleOverride \
            setLocaleOverride setNavigatorOverrides setPageScaleFactor \
            setPressureSourceOverrideEnabled setPressureStateOverride setPrimaryScreen \
            setSafeAreaInsetsOverride setScriptExecutionDisabled setScrollbarsHidden \
            setSensorOverrideEnabled setSensorOverrideReadings \
            setSmallViewportHeightDifferenceOverride setTimezoneOverride \
            setTouchEmulationEnabled setUserAgentOverride setVirtualKeyboardGeometryOverride \
            setVirtualTimePolicy"),
        (Judge(Task::Area), "addScreen setVisibleSize updateScreen"),
        (Judge(Task::Metrics), "setDeviceMetricsOverride"),
    ]),
    ("EventBreakpoints", &[
        (Pass, "disable removeInstrumentationBreakpoint setInstrumentationBreakpoint"),
    ]),
    ("Extensions", &[
        (Refuse(&rules::EXTENSIONS), "\
            clearStorageItems getExtensions getStorageItems loadUnpacked removeStorageItems \
            setStorageItems triggerAction uninstall"),
    ]),
    ("FedCm", &[
        (Pass, "\
            clickDialogButton disable dismissDialog enable openUrl resetCooldown selectAccount"),
    ]),
    ("Fetch", &[
        (Pass, "\
            continueResponse continueWithAuth disable enable failRequest fulfillRequest \
            getResponseBody takeResponseBodyAsStream"),
        (Judge(Task::Url), "continueRequest"),
    ]),
    ("FileSystem", &[
        (Pass, "getDirectory"),
    ]),
    ("FindInPage", &[
        (Pass, "findFirst findNext findPrev stop"),
    ]),
    ("HeadlessExperimental", &[
        (Pass, "beginFrame disable enable"),
    ]),
    ("HeapProfiler", &[
        (Pass, "\
            addInspectedHeapObject collectGarbage disable enable getHeapObjectId \
            getObjectByHeapObjectId getSamplingProfile startSampling startTrackingHeapObjects \
            stopSampling stopTrackingHeapObjects takeHeapSnapshot"),
    ]),
    ("IO", &[
        (Pass, "close read resolveBlob"),
    ]),
    ("IndexedDB", &[
        (Pass, "\
            clearObjectStore deleteDatabase deleteObjectStoreEntries disable enable getMetadata \
            requestData requestDatabase requestDatabaseNames"),
    ]),
    ("Input", &[
        (Pass, "\
            cancelDragging dispatchKeyEvent dispatchMouseEvent dispatchTouchEvent \
            emulateTouchFromMouseEvent imeSetComposition insertText setIgnoreInputEvents \
            setInterceptDrags synthesizePinchGesture synthesizeScrollGesture \
            synthesizeTapGesture"),
        (Judge(Task::Drag), "dispatchDragEvent"),
    ]),
    ("Inspector", &[
        (Pass, "disable enable"),
    ]),
    ("LayerTree", &[
        (Pass, "\
            compositingReasons disable enable makeSnapshot profileSnapshot releaseSnapshot \
            replaySnapshot snapshotCommandLog"),
        (Refuse(&rules::BINARY), "loadSnapshot"),
    ]),
    ("Log", &[
        (Pass, "clear disable enable startViolationsReport stopViolationsReport"),
    ]),
    ("Media", &[
        (Pass, "disable enable"),
    ]),
    ("Memory", &[
        (Pass, "\
            forciblyPurgeJavaScriptMemory getAllTimeSamplingProfile getDOMCounters \
            getDOMCountersForLeakDetection getSamplingProfile prepareForLeakDetection \
            setPressureNotificationsSuppressed simulatePressureNotification startSampling \
            stopSampling"),
        (Refuse(&rules::PROCESS), "getBrowserSamplingProfile"),
    ]),
    ("Network", &[
        (Pass, "\
            canClearBrowserCache canClearBrowserCookies canEmulateNetworkConditions \
            clearBrowserCache clearBrowserCookies configureDurableMessages deleteCookies \
            deleteDeviceBoundSession disable emulateNetworkConditions \
            emulateNetworkConditionsByRule enable enableDeviceBoundSessions enableReportingApi \
            fetchSchemefulSite getAllCookies getCertificate getCookies getRequestPostData \
            getResponseBody getSecurityIsolationStatus overrideNetworkState replayXHR \
            searchInResponseBody setAttachDebugStack setBlockedURLs setBypassServiceWorker \
            setCacheDisabled setCookie setCookieControls setCookies setExtraHTTPHeaders \
            setUserAgentOverride streamResourceContent"),
        (Judge(Task::Url), "loadNetworkResource"),
    ]),
    ("Overlay", &[
        (Pass, "\
            disable enable getGridHighlightObjectsForTest getHighlightObjectForTest \
            getSourceOrderHighlightObjectForTest hideHighlight highlightFrame highlightNode \
            highlightQuad highlightRect highlightSourceOrder setInspectMode \
            setPausedInDebuggerMessage setShowAdHighlights setShowContainerQueryOverlays \
            setShowDebugBorders setShowDisplayCutout setShowFPSCounter setShowFlexOverlays \
            setShowGridOverlays setShowHinge setShowHitTestBorders setShowInspectedElementAnchor \
            setShowIsolatedElements setShowLayoutShiftRegions setShowPaintRects \
            setShowScrollBottleneckRects setShowScrollSnapOverlays setShowViewportSizeOnResize \
            setShowWebVitals setShowWindowControlsOverlay"),
    ]),
    ("PWA", &[
        (Refuse(&rules::APPS), "\
            changeAppUserSettings getOsAppState install launch launchFilesInApp \
            openCurrentPageInApp uninstall"),
    ]),
    ("Page", &[
        (Pass, "\
            addScriptToEvaluateOnLoad addScriptToEvaluateOnNewDocument bringToFront \
            captureSnapshot clearCompilationCache clearDeviceMetricsOverride \
            clearDeviceOrientationOverride clearGeolocationOverride close crash \
            createIsolatedWorld deleteCookie disable enable generateTestReport \
            getAdScriptAncestry getAnnotatedPageContent getAppId getAppManifest getFrameTree \
            getInstallabilityErrors getLayoutMetrics getManifestIcons getNavigationHistory \
            getOriginTrials getPermissionsPolicyState getResourceContent getResourceTree \
            getSiblingSubApps getSubApps handleJavaScriptDialog navigateToHistoryEntry \
            produceCompilationCache reload removeScriptToEvaluateOnLoad \
            removeScriptToEvaluateOnNewDocument resetNavigationHistory screencastFrameAck \
            searchInResource setAdBlockingEnabled setBypassCSP setDeviceOrientationOverride \
            setDocumentContent setFontFamilies setFontSizes setGeolocationOverride \
            setInterceptFileChooserDialog setLifecycleEventsEnabled setPrerenderingAllowed \
            setRPHRegistrationMode setSPCTransactionMode setTouchEmulationEnabled \
            setWebLifecycleState startScreenRecording startScreencast stopLoading \
            stopScreenRecording stopScreencast waitForDebugger"),
        (Judge(Task::Downloads), "setDownloadBehavior"),
        (Judge(Task::Metrics), "setDeviceMetricsOverride"),
        (Judge(Task::Navigate), "navigate"),
        (Judge(Task::Pdf), "printToPDF"),
        (Judge(Task::Screenshot), "captureScreenshot"),
        (Refuse(&rules::BINARY), "addCompilationCache"),
    ]),
    ("Performance", &[
        (Pass, "disable enable getMetrics setTimeDomain"),
    ]),
    ("PerformanceTimeline", &[
        (Pass, "enable"),
    ]),
    ("Preload", &[
        (Pass, "disable enable"),
    ]),
    ("Profiler", &[
        (Pass, "\
            disable enable getBestEffortCoverage setSamplingInterval start startPreciseCoverage \
            stop stopPreciseCoverage takePreciseCoverage"),
    ]),
    ("Runtime", &[
        (Pass, "\
            addBinding awaitPromise callFunctionOn compileScript disable discardConsoleEntries \
            enable evaluate getExceptionDetails getHeapUsage getIsolateId getProperties \
            globalLexicalScopeNames queryObjects releaseObject releaseObjectGroup removeBinding \
            runIfWaitingForDebugger runScript setAsyncCallStackDepth \
            setCustomObjectFormatterEnabled setMaxCallStackSizeToCapture terminateExecution"),
    ]),
    ("Schema", &[
        (Pass, "getDomains"),
    ]),
    ("Security", &[
        (Pass, "\
            disable enable handleCertificateError setIgnoreCertificateErrors \
            setOverrideCertificateErrors"),
    ]),
    ("ServiceWorker", &[
        (Pass, "\
            deliverPushMessage disable dispatchPeriodicSyncEvent dispatchSyncEvent enable \
            setForceUpdateOnPageLoad skipWaiting startWorker stopAllWorkers stopWorker \
            unregister updateRegistration"),
    ]),
    ("SmartCardEmulation", &[
        (Pass, "\
            disable enable reportBeginTransactionResult reportConnectResult reportDataResult \
            reportError reportEstablishContextResult reportGetStatusChangeResult \
            reportListReadersResult reportPlainResult reportReleaseContextResult \
            reportStatusResult"),
    ]),
    ("Storage", &[
        (Pass, "\
            clearCookies clearDataForOrigin clearDataForStorageKey \
            clearPrivateVerificationTokens clearTrustTokens deletePrivateVerificationToken \
            deleteStorageBucket getCookies getPrivateVerificationTokens \
            getPrivateVerificationTokensIssuerConfigs getStorageKey getStorageKeyForFrame \
            getTrustTokens getUsageAndQuota overrideQuotaForOrigin runBounceTrackingMitigations \
            setCookies setPrivateVerificationTokensTracking setStorageBucketTracking \
            trackCacheStorageForOrigin trackCacheStorageForStorageKey trackIndexedDBForOrigin \
            trackIndexedDBForStorageKey untrackCacheStorageForOrigin \
            untrackCacheStorageForStorageKey untrackIndexedDBForOrigin \
            untrackIndexedDBForStorageKey"),
    ]),
    ("SystemInfo", &[
        (Refuse(&rules::MACHINE), "getFeatureState getInfo getProcessInfo"),
    ]),
    ("Target", &[
        (Pass, "\
            activateTarget attachToBrowserTarget closeTarget disposeBrowserContext \
            getBrowserContexts getDevToolsTarget getTargetInfo getTargets setDiscoverTargets"),
        (Judge(Task::Attach), "attachToTarget autoAttachRelated"),
        (Judge(Task::Context), "createBrowserContext"),
        (Judge(Task::CreateTarget), "createTarget"),
        (Judge(Task::Follow), "detachFromTarget setAutoAttach"),
        (Judge(Task::Open), "sendMessageToTarget"),
        (Refuse(&rules::DEBUGGER), "exposeDevToolsProtocol openDevTools setRemoteLocations"),
    ]),
    ("Tethering", &[
        (Refuse(&rules::PORTS), "bind unbind"),
    ]),
    ("Tracing", &[
        (Pass, "end getCategories getTrackEventDescriptor recordClockSyncMarker requestMemoryDump"),
        (Judge(Task::Trace), "start"),
    ]),
    ("WebAudio", &[
        (Pass, "disable enable getRealtimeData"),
    ]),
    ("WebAuthn", &[
        (Pass, "\
            addCredential addVirtualAuthenticator clearCredentials disable enable getCredential \
            getCredentials removeCredential removeVirtualAuthenticator \
            setAutomaticPresenceSimulation setCredentialProperties setResponseOverrideBits \
            setUserVerified"),
    ]),
    ("WebMCP", &[
        (Pass, "cancelInvocation disable enable invokeTool"),
    ]),
];
